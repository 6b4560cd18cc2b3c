"""The code digest: blind to comments and formatting, sensitive to code, and never short of a module."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import provenance
from pipeline.provenance import ROOT, closure, digest

STAGES = sorted(path.stem for path in (ROOT / "pipeline/stages").glob("[a-z]*.py"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of five modules: the stage reads helper (in a function) and near (relative), near reads far."""
    files = {
        "__init__.py": "",
        "stages/__init__.py": "",
        "stages/stage.py": "import numpy\nfrom . import near\n\n\ndef main():\n    from pipeline.helper import value\n",
        "stages/near.py": "from ..lib.far import number\n",
        "lib/__init__.py": "",
        "lib/far.py": '"""Docstring."""\n\n\ndef number(a, b):\n    """Docstring."""\n    return a + b  # comment\n',
        "helper.py": "value = 1\n",
        "unrelated.py": "value = 2\n",
    }
    for name, text in files.items():
        path = tmp_path / "pipeline" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_closure_follows_relative_and_function_level_imports(project):
    names = {"stages", "stages.stage", "stages.near", "lib", "lib.far", "helper"}
    assert closure("pipeline.stages.stage", project) == {"pipeline"} | {f"pipeline.{name}" for name in names}


def test_what_was_parsed_once_is_kept_and_changes_no_digest(project, tmp_path, monkeypatch):
    kept = tmp_path / "kept" / "normalised.json"
    monkeypatch.setattr(provenance, "ROOT", project)
    monkeypatch.setattr(provenance, "KEPT", kept)

    def anew() -> str:
        """As another process would find it."""
        provenance._kept.cache_clear()
        provenance._parse_text.cache_clear()
        return digest("pipeline.stages.stage", root=project)

    try:
        expected = anew()
        with monkeypatch.context() as without:
            without.setattr(ast, "parse", None)
            assert anew() == expected
        kept.write_text('{"damaged')
        assert anew() == expected
        assert len(json.loads(kept.read_text())) == 5  # three of seven files are empty
    finally:
        provenance._kept.cache_clear()


@pytest.mark.parametrize(
    ("module", "old", "new", "changes"),
    [
        ("lib/far.py", "# comment", "# another remark", False),
        ("lib/far.py", '    """Docstring."""\n', "", False),
        ("lib/far.py", "(a, b)", "(\n    a,\n    b,\n)", False),
        ("lib/far.py", "a + b", "a - b", True),
        ("helper.py", "1", "3", True),
        ("stages/stage.py", "import numpy\n", "", True),
        ("unrelated.py", "2", "3", False),
    ],
)
def test_digest_changes_only_with_code_that_is_imported(project, module, old, new, changes):
    before = digest("pipeline.stages.stage", root=project)
    path = project / "pipeline" / module
    path.write_text(path.read_text().replace(old, new))
    assert (digest("pipeline.stages.stage", root=project) != before) == changes


def test_what_errors_and_log_lines_say_leaves_the_digest_alone(project):
    path = project / "pipeline/helper.py"
    text = 'def check(n):\n    log.info("so many: %d", n)\n    if n > 3:\n        raise DataError(f"{n}: too many")\n'
    found = []
    for edited in (text, text.replace("so many", "as many"), text.replace("too many", "expected 3"), text + "n = 1\n"):
        path.write_text(edited)
        found.append(digest("pipeline.stages.stage", root=project))
    assert found[0] == found[1] == found[2] != found[3]


def test_digest_of_a_missing_module_is_an_error(project):
    with pytest.raises(ModuleNotFoundError, match=r"pipeline\.stages\.nothing"):
        digest("pipeline.stages.nothing", root=project)


@given(comments=st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"])), min_size=1))
def test_any_comment_leaves_the_digest_alone(tmp_path_factory, comments):
    root = tmp_path_factory.mktemp("project")
    (root / "pipeline").mkdir()
    (root / "pipeline/__init__.py").touch()
    path = root / "pipeline" / "stage.py"
    path.write_text("x = 1\ny = 2\n")
    before = digest("pipeline.stage", root=root)
    path.write_text("".join(f"# {text}\n" for text in comments) + "x = 1\n\n\n# between\ny = 2\n")
    assert digest("pipeline.stage", root=root) == before


def loaded(stage: str) -> list[str]:
    """The project's modules that importing a stage loads."""
    for name in [name for name in sys.modules if name.split(".")[0] == "pipeline"]:
        del sys.modules[name]
    import_module(f"pipeline.stages.{stage}")
    return [name for name in sys.modules if name.split(".")[0] == "pipeline"]


def loads_without(library: str, stage: str) -> bool:
    """Whether a stage is imported although no module of a library can be."""
    blocked = [name for name in {library, *sys.modules} if name.split(".")[0] == library]
    with patch.dict(sys.modules, dict.fromkeys(blocked)):
        try:
            loaded(stage)
        except ModuleNotFoundError:
            return False
    return True


@pytest.fixture(scope="module")
def apart() -> Iterator[ProcessPoolExecutor]:
    """A process with this one's libraries, seconds each to import, in which the project may be imported anew."""
    with ProcessPoolExecutor(1, get_context("fork")) as process:
        yield process


def test_importing_a_stage_loads_nothing_outside_its_closure(apart):
    for stage, modules in zip(STAGES, apart.map(loaded, STAGES), strict=True):
        assert set(modules) <= closure(f"pipeline.stages.{stage}"), stage


# what takes a second or more to import, and the only stages that import it
NEEDED_BY = {
    "torch": {
        *("ablations", "animate", "distill", "evaluate", "export", "fit_identity", "fit_sequence", "mesh", "prior"),
        *("pointcloud", "render", "retarget", "speed", "train"),
    },
    "diffusers": {"distill", "render", "speed", "train"},
    "pycolmap": {"calibrate", "pointcloud"},
}


@pytest.mark.parametrize("library", ["diffusers", "pycolmap"])
def test_only_stages_that_need_a_library_of_seconds_import_it(apart, library):
    works = apart.map(partial(loads_without, library), STAGES)
    assert {stage for stage, without in zip(STAGES, works, strict=True) if not without} == NEEDED_BY[library]


def test_other_stages_import_no_torch_by_any_library_of_theirs():
    light = [stage for stage in STAGES if stage not in NEEDED_BY["torch"]]
    code = f"import importlib, sys\nfor s in {light}:\n    importlib.import_module('pipeline.stages.' + s)\n"
    code += "    assert 'torch' not in sys.modules, s"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
