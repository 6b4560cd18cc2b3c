"""The rooms of the library and which may import which: the contracts of pyproject.toml hold."""

from importlinter import cli

from pipeline.provenance import ROOT

MOST_LINES = 300  # a longer file holds two ideas


def test_rooms_import_only_those_below_them():
    assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == cli.EXIT_STATUS_SUCCESS


def test_no_file_is_long():
    long = {
        path: lines
        for path in ROOT.glob("pipeline/**/*.py")
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long
