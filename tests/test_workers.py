"""Work is shared out to processes of one thread each; one that has one thread already does it itself."""

import os
import subprocess
import sys

import pytest

from pipeline.provenance import ROOT
from pipeline.workers import ONE_THREAD

ASK = """
import operator, os
from pipeline.workers import workers
if __name__ == "__main__":
    with workers({count}) as run:
        itself = os.getpid() in run(operator.call, [os.getpid] * 4)
    print(itself, os.environ["OMP_NUM_THREADS"])
"""


@pytest.mark.parametrize(("count", "threads", "itself"), [(1, "1", True), (1, "2", False), (2, "1", False)])
def test_who_works(tmp_path, count, threads, itself):
    script = tmp_path / "ask.py"
    script.write_text(ASK.format(count=count))
    environment = os.environ | dict.fromkeys(ONE_THREAD, threads) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(itself), threads]
