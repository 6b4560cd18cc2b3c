"""The protocol of captures: a new format is one new file, and everything that asks a capture works with it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cameras.rig import read_rig
from pipeline.capture import formats
from pipeline.capture.formats import open_capture
from pipeline.errors import ConfigError
from pipeline.planning.plan import Plan
from pipeline.planning.table import read_table
from pipeline.provenance import digest
from pipeline.stages import calibrate, ingest
from pipeline.store.chunk import read_arrays

# Three cameras in an arc; pictures and masks are stills. All that a developer would write.
TOY = '''
"""A toy format: toy/<camera>/<frame>.png beside masks."""
import numpy as np
from pipeline.capture.formats.base import Capture, RecordedCamera, Stills

class Toy(Capture):
    kind = "toy"

    @classmethod
    def recognises(cls, folder):
        return (folder / "toy").is_dir()

    def cameras(self):
        return ["left", "middle", "right"]

    def calibration(self):
        turn = {"left": -0.3, "middle": 0.0, "right": 0.3}
        return [
            RecordedCamera(n, np.array([[20.0, 0, 8], [0, 20, 6], [0, 0, 1]]), pose(turn[n]), (16, 12))
            for n in self.cameras()
        ]

    def calibration_files(self):
        return []

    def sequences(self):
        return ["only"]

    def pictures(self, sequence):
        return {n: self._stills(n, "[0-9].png") for n in self.cameras()}

    def masks(self, sequence):
        return {n: self._stills(n, "mask*.png") for n in self.cameras()}

    def _stills(self, camera, pattern):
        return Stills(tuple(sorted((self.folder / "toy" / camera).glob(pattern))))

def pose(turn):
    result = np.eye(4)
    result[0, :3] = np.cos(turn), 0, np.sin(turn)
    result[2, :3] = -np.sin(turn), 0, np.cos(turn)
    result[2, 3] = 1  # a metre before what all look at
    return result
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A capture in a format that only the file beside it knows."""
    import cv2

    (tmp_path / "more").mkdir()
    (tmp_path / "more/toy.py").write_text(TOY)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "more")])
    for camera, level in (("left", 40), ("middle", 60), ("right", 90)):
        (tmp_path / "capture/toy" / camera).mkdir(parents=True)
        for frame in range(3):
            picture = np.full((12, 16, 3), level + frame, np.uint8)
            mask = np.zeros((12, 16), np.uint8)
            mask[2:10, 2:14] = 150 + level + frame
            mask[2, 2] = 50  # a third value: two alone are 0 and 255
            cv2.imwrite(str(tmp_path / "capture/toy" / camera / f"{frame}.png"), picture)
            cv2.imwrite(str(tmp_path / "capture/toy" / camera / f"mask{frame}.png"), mask)
    yield tmp_path / "capture"
    sys.modules.pop(f"{formats.__name__}.toy", None)


def run(monkeypatch: pytest.MonkeyPatch, stage, **options: object) -> None:
    """Run a stage's main in this process, which knows the toy format."""
    line = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", [stage.__name__, *line])
    stage.main()


def test_a_format_is_one_new_file(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_capture(toy).kind == "toy"
    run(monkeypatch, calibrate, capture=toy, output=tmp_path / "cameras.json", settings='{"scale": 0.5}')
    rig = read_rig(tmp_path / "cameras.json")
    assert [(c.name, c.width, c.height) for c in rig.cameras] == [("left", 8, 6), ("middle", 8, 6), ("right", 8, 6)]
    span = {"subject": "a", "sequence": "only", "start": 1, "stop": 3, "frames": 3}
    output = tmp_path / "frames.zarr.zip"
    run(monkeypatch, ingest, capture=toy, cameras=tmp_path / "cameras.json", output=output, **span)
    rgb, alpha = read_arrays(output, "rgb", "alpha")
    assert rgb[:, :, 0, 0, 0].tolist() == [[41, 61, 91], [42, 62, 92]]
    assert alpha[:, :, 3, 4].tolist() == [[191, 211, 241], [192, 212, 242]]


def test_planning_asks_any_format(toy: Path, tmp_path: Path) -> None:
    table = tmp_path / "captures.tsv"
    table.write_text(f"subject\tsequence\tfolder\tframes\na\tonly\t{toy}\t3\nb\tonly\t{toy}\t3\n")
    plan = Plan(read_table(table), 1, 2, ["left"], [])
    plan.check_captures()
    assert plan.cameras("a") == ["left", "middle", "right"]
    second = [toy / "toy" / camera / name for name in ("2.png", "mask2.png") for camera in plan.cameras("a")]
    assert sorted(plan.recording("a", "only", "000002-000003")) == sorted(second)
    assert plan.format("a") == f"{formats.__name__}.toy"


def test_the_code_of_a_captures_own_format_counts_and_no_others() -> None:
    alone, both = digest("pipeline.stages.ingest"), digest("pipeline.stages.ingest", f"{formats.__name__}.nersemble")
    assert alone != both


def test_a_folder_that_no_format_knows_is_one_line(tmp_path: Path, tiny_capture: Path, toy: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no capture of a known format \(.*nersemble.*\)"):
        open_capture(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        open_capture(tmp_path / "nothing")
    shutil.copytree(tiny_capture / "calibration", toy / "calibration")
    with pytest.raises(ConfigError, match="looks like nersemble, toy; expected one of them"):
        open_capture(toy)


def test_listing_a_capture_imports_nothing_that_takes_long(tiny_capture: Path) -> None:
    code = (
        "import sys, pathlib; from pipeline.capture.formats import open_capture;"
        f"open_capture(pathlib.Path({str(tiny_capture)!r})).files('EXP-5-mouth');"
        "print({'cv2', 'av', 'torch', 'pycolmap', 'scipy', 'zarr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
