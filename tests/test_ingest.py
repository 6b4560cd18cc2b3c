"""The ingest stage: what it writes, and for each kind of bad input one line, exit status 1 and nothing half-written."""

import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.cameras.rig import read_rig, write_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.pictures.colour import correct_color
from pipeline.capture.pictures.decode import read_picture
from pipeline.detect import models
from pipeline.errors import DataError
from pipeline.stages import ingest
from pipeline.store.chunk import read_arrays, read_attributes
from tests import in_process
from tests.tiny_videos import decode_all, encode

SEQUENCE, CAMERA, FRAMES = "EXP-5-mouth", "222200037", 3


def arguments(capture: Path, output: Path, start: int = 0, stop: int = FRAMES, **more: object) -> list[str]:
    """The stage's command line; the cameras lie beside the capture."""
    cameras = capture.with_suffix(".cameras.json")
    if not cameras.exists():
        write_rig(cameras, read_rig_of(open_capture(capture), 1.0))
    given = {
        "subject": "901",
        "sequence": SEQUENCE,
        "start": start,
        "stop": stop,
        "capture": capture,
        "cameras": cameras,
        "frames": FRAMES,
        "output": output,
        **more,
    }
    return [str(part) for name, value in given.items() for part in (f"--{name}", value)]


def run_here(monkeypatch: pytest.MonkeyPatch, line: list[str]) -> None:
    """Run the stage's main in this process, which saves its start."""
    monkeypatch.setattr(sys, "argv", ["ingest", *line])
    ingest.main()


def test_stage_writes_the_span(tiny_capture: Path, tmp_path: Path) -> None:
    output = tmp_path / "frames" / "000000-000003.zarr.zip"
    line = arguments(tiny_capture, output, code="abc")
    in_process.run_well("stages.ingest", *line)
    rgb, alpha = read_arrays(output, "rgb", "alpha")
    rig = read_rig(tiny_capture.with_suffix(".cameras.json"))
    assert rgb.shape == (FRAMES, len(rig.cameras), 384, 256, 3)
    assert alpha.shape == rgb.shape[:-1]
    for c, camera in enumerate(rig.cameras):
        for t, frame in enumerate(decode_all(tiny_capture / "sequences" / VIDEO.replace(CAMERA, camera.name))):
            assert np.array_equal(rgb[t, c], correct_color(frame.to_ndarray(format="rgb24"), camera.color))
    assert 0.3 < (alpha > 127).mean() < 0.7
    attributes = read_attributes(output)
    assert attributes["cameras"] == rig.names
    assert (attributes["stage"], attributes["code"], attributes["start"], attributes["stop"]) == ("ingest", "abc", 0, 3)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_span_stride_and_scale(tiny_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's pixels are the same in any span and at any stride, here at a third of the size."""
    cameras = tmp_path / "cameras.json"
    write_rig(cameras, read_rig_of(open_capture(tiny_capture), 1 / 3))

    def read(name: str, start: int, stop: int, settings: str = "{}") -> tuple[np.ndarray, ...]:
        output = tmp_path / f"{name}.zarr.zip"
        run_here(monkeypatch, arguments(tiny_capture, output, start, stop, cameras=cameras, settings=settings))
        return read_arrays(output, "rgb", "alpha")

    whole = read("whole", 0, 3)
    assert whole[0].shape == (3, 5, 128, 85, 3)
    for of_whole, first, rest, strided in zip(
        whole, read("first", 0, 1), read("rest", 1, 3), read("strided", 0, 2, '{"stride": 2}'), strict=True
    ):
        assert np.array_equal(of_whole, np.concatenate([first, rest]))
        assert np.array_equal(of_whole[::2], strided)


def cut(path: Path) -> None:
    """Keep the first three quarters of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])


def cut_after_header(path: Path) -> None:
    """Move the index to the front, as recorders for streaming do, then cut the pictures."""

    whole = path.with_suffix(".whole.mp4")
    path.rename(whole)
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut(path)


def damage(path: Path) -> None:
    """Overwrite the picture data in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(bytes(content))


def shorten(path: Path) -> None:
    """Leave out the last frame."""
    encode(path, decode_all(path)[:-1], preset="ultrafast")


def shrink(path: Path) -> None:
    """Another picture size, another shape."""
    encode(path, [frame.reformat(width=128, height=128) for frame in decode_all(path)], preset="ultrafast")


def halve_plate(path: Path) -> None:
    """Another size of the same shape."""
    cv2.imwrite(str(path), read_picture(path, "a plate")[::2, ::2])


def blacken_plate(path: Path) -> None:
    """As if it had been taken in the dark."""
    cv2.imwrite(str(path), 0 * read_picture(path, "a plate"))


def darken_most_of_the_plate(path: Path) -> None:
    """It fits in a patch of wall near a corner only."""
    plate = read_picture(path, "a plate")
    other = plate // 4
    other[12:60, 12:60] = plate[12:60, 12:60]
    cv2.imwrite(str(path), other[..., ::-1])


VIDEO = f"{SEQUENCE}/images/cam_{CAMERA}.mp4"
PLATE = f"BACKGROUND/image_{CAMERA}.jpg"
BAD = {
    "no video": (VIDEO, Path.unlink, f"no recording of camera {CAMERA}; expected one of all 5"),
    "truncated": (VIDEO, cut, rf"cam_{CAMERA}.mp4: truncated or not a video"),
    "truncated behind its index": (VIDEO, cut_after_header, rf"cam_{CAMERA}.mp4: truncated: its 3 frames need"),
    "empty": (VIDEO, lambda path: path.write_bytes(b""), rf"cam_{CAMERA}.mp4: truncated or not a video"),
    "damaged": (VIDEO, damage, rf"cam_{CAMERA}.mp4: (cannot decode after frame|frame) \d"),
    "a frame short": (VIDEO, shorten, rf"different frame counts .*{CAMERA}: 2.*; expected 3 each"),
    "another size": (VIDEO, shrink, rf"cam_{CAMERA}.mp4: camera {CAMERA} recorded 128x128, .* 256x384"),
    "plate of another size": (PLATE, halve_plate, rf"image_{CAMERA}.jpg: 128x192; expected the video's size, 256x384"),
    "black plate": (PLATE, blacken_plate, f"camera {CAMERA}, frame 0: no part of the picture looks like its plate"),
    "plate of another light": (
        PLATE,
        darken_most_of_the_plate,
        f"camera {CAMERA}, frame 0: the alpha covers most of every border",
    ),
    "broken plate": (PLATE, lambda path: path.write_text("x"), rf"image_{CAMERA}.jpg: not a readable picture"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(own_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    name, spoil, message = BAD[case]
    output = tmp_path / "frames" / "a.zarr.zip"
    line = arguments(own_capture, output)
    spoil(own_capture / "sequences" / name)
    with pytest.raises(DataError, match=message) as caught:
        run_here(monkeypatch, line)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("frames/*"))


@pytest.mark.skipif(not models.present(), reason="envs/detectors.sh brings the person network")
def test_a_camera_without_a_plate_is_matted_by_where_a_person_is(
    own_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly the alpha that its plate gives."""
    both = []
    for name in ("with", "without"):
        run_here(monkeypatch, arguments(own_capture, tmp_path / f"{name}.zarr.zip", 0, 1))
        both.append(read_arrays(tmp_path / f"{name}.zarr.zip", "alpha")[0][0, 1] / 255)
        (own_capture / "sequences" / PLATE).unlink(missing_ok=True)
    assert np.minimum(*both).sum() / np.maximum(*both).sum() > 0.98
    assert not np.array_equal(*both)


def test_a_stretch_of_a_recording(tiny_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames 1 to 3 of a recording by the name of the sequence are those of the recording."""
    run_here(monkeypatch, arguments(tiny_capture, tmp_path / "all.zarr.zip"))
    part = {"sequence": f"{SEQUENCE}@1-3", "frames": 2}
    run_here(monkeypatch, arguments(tiny_capture, tmp_path / "part.zarr.zip", 0, 2, **part))
    for whole, stretch in zip(*(read_arrays(tmp_path / f"{n}.zarr.zip", "rgb") for n in ("all", "part")), strict=True):
        assert np.array_equal(whole[1:3], stretch)


def test_declared_frames_must_be_true(tiny_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"the recordings have 3 frames; captures\.tsv declares 4"):
        run_here(monkeypatch, arguments(tiny_capture, tmp_path / "a.zarr.zip", frames=4))
    with pytest.raises(DataError, match="steps 1 to 3 at stride 2 are not within its 3 frames"):
        run_here(monkeypatch, arguments(tiny_capture, tmp_path / "a.zarr.zip", 1, 3, settings='{"stride": 2}'))


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one error line of a stage that must have ended with 1."""
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if " pictures/s, " not in line]
    assert len(errors) == 1, done.stderr
    return errors[0]


def test_stage_says_one_line_and_exits_with_1(own_capture: Path, tmp_path: Path) -> None:
    line = arguments(own_capture, tmp_path / "frames" / "a.zarr.zip")
    shutil.rmtree(own_capture / "sequences" / SEQUENCE)
    assert f"sequence {SEQUENCE} has no recording of camera 220700191, " in only_error(
        in_process.run("stages.ingest", *line)
    )
    assert not (tmp_path / "frames").exists()


def test_full_disk(tiny_capture: Path, tmp_path: Path) -> None:
    """A write that fails half-way (a file size limit acts as a disk that fills up) leaves nothing behind."""
    output = tmp_path / "frames" / "a.zarr.zip"
    command = [sys.executable, "-m", "pipeline.stages.ingest", *arguments(tiny_capture, output)]
    with_limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (300_000, 300_000))
    error = only_error(subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=with_limit))
    assert "File too large" in error
    assert str(output) in error
    assert not list(output.parent.iterdir())
