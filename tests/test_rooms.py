"""The rooms of the library and which may import which: the contracts of pyproject.toml hold."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from pipeline.provenance import ROOT

MOST_LINES = 300  # a longer file holds two ideas
MOST_FILES = 10  # in a folder, but where each is one stage or one format
ONE_EACH = ("settings", "stages", "capture/formats")


def test_rooms_import_only_those_below_them():
    # a process of its own: import-linter turns off the loggers of the one that it runs in
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_file_is_long():
    long = {
        path: lines
        for path in ROOT.glob("pipeline/**/*.py")
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long


def test_no_folder_is_full():
    files = [path for path in ROOT.glob("pipeline/**/*.py") if path.name != "__init__.py"]
    counts = Counter(path.parent.relative_to(ROOT / "pipeline").as_posix() for path in files)
    assert {folder for folder, count in counts.items() if count > MOST_FILES} == set(ONE_EACH)


def test_every_command_can_be_run_as_a_process():
    """Most tests call them in their own process."""
    texts = {path: path.read_text() for path in ROOT.glob("pipeline/**/*.py")}
    commands = [path for path, text in texts.items() if "\ndef main() -> None:" in text and "import cli\n" in text]
    assert len(commands) > 25
    for path in commands:
        assert texts[path].endswith('\n\nif __name__ == "__main__":\n    cli.run(main)\n'), path
