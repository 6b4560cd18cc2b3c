"""One run at a time in a results folder; the lock dies with its process."""

import subprocess
import sys
from pathlib import Path

from pipeline.provenance import ROOT

HOLD = """
import sys, time
from pathlib import Path
from pipeline.errors import PipelineError
from pipeline.store.lock import lock_folder
try:
    lock_folder(Path(sys.argv[1]))
except PipelineError as error:
    sys.exit(str(error))
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, folder, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_run_is_refused_in_one_line_until_the_first_dies(tmp_path: Path) -> None:
    with hold(tmp_path / "results", 60) as first:
        assert first.stdout.readline() == "held\n"
        with hold(tmp_path / "results", 0) as second:
            _, said = second.communicate(timeout=60)
        assert second.returncode == 1
        assert said.count("\n") == 1
        assert f"results: another run works in this folder (process {first.pid} on " in said
        first.kill()
    with hold(tmp_path / "results", 0) as third:
        assert third.communicate(timeout=60)[0] == "held\n"
