"""The report on a synthetic ball: a page that stands alone, tables that say what the files say, tiles that fit."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_head import HELD_OUT_CAMERA, HELD_OUT_SEQUENCE, SEQUENCES, make_rig, see, write_ball, write_benchmark

from pipeline.errors import DataError
from pipeline.film import write_film
from pipeline.report import records, tiles
from pipeline.report.material import Shot, open_material
from pipeline.report.page import context, read_films, render
from pipeline.report.plots import Line, line_plot, nice_ticks, worst
from pipeline.report.sheets import cameras_around, contact_sheet, driven_rows, moments, typical_shot
from pipeline.settings.report import ReportSettings
from pipeline.store.chunk import Array, write_chunk
from tests import in_process

VOID = {"meta", "img", "br"}
SPEED = """steps\teta\tpictures\tpictures_per_s\tpsnr_head\tssim_head\tflip_head
1\t0\t12\t9.61\t27.05\t0.859\t0.111
20\t0\t12\t0.472\t27.17\t0.857\t0.11
"""


class Page(HTMLParser):
    """Collects elements, checks that tags nest, and keeps the text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def files_of(root: Path) -> dict[str, list[Path] | Path]:
    """The report's inputs but for the films, by the name of their argument."""
    return {
        "frames": sorted(root.glob("frames/*/*.zarr.zip")),
        "clouds": sorted(root.glob("clouds/*/*.zarr.zip")),
        "tracks": sorted(root.glob("tracks/*.zarr.zip")),
        "buffers": sorted(root.glob("buffers/*/capture/*.zarr.zip")),
        "targets": sorted(root.glob("targets/*/*.zarr.zip")),
        "renders": sorted(root.glob("renders/*/capture.zarr.zip")),
        "cameras": root / "cameras.json",
        "rig": root / "rigs" / "capture.json",
        "metrics": root / "metrics.json",
        "figures": root / "figures.tsv",
        "comparison": root / "comparison.zarr.zip",
        "quality": [root / "quality" / f"{sequence}.json" for sequence in SEQUENCES],
    }


def run_stage(stage: str, *words: object) -> subprocess.CompletedProcess[str]:
    return in_process.run(f"stages.{stage}", *words)


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic results with evaluate's and the report's files among them."""
    root = write_ball(tmp_path_factory.mktemp("ball"))
    files = files_of(root)
    lists = [word for name in ("renders", "targets", "buffers", "tracks") for word in (f"--{name}", *files[name])]
    evaluated = run_stage(
        "evaluate",
        *(*lists, "--rig", files["rig"], "--settings", '{"colour_cell": 0.05}'),
        *("--held-out-cameras", HELD_OUT_CAMERA, "--held-out-sequences", HELD_OUT_SEQUENCE),
        *("--output", files["metrics"], "--comparison", files["comparison"], "--pictures", root / "pictures.tsv"),
        *("--figures", files["figures"]),
    )
    assert evaluated.returncode == 0, evaluated.stderr
    for path in files["quality"]:
        spans = {name: sorted(root.glob(f"{name}/{path.stem}/*.zarr.zip")) for name in ("clouds", "meshes")}
        lists = [word for name, paths in spans.items() for word in (f"--{name}", *paths)]
        one = ("--track", root / f"tracks/{path.stem}.zarr.zip", "--cameras", files["cameras"], "--output", path)
        measured = run_stage("fit_quality", *lists, *one)
        assert measured.returncode == 0, measured.stderr
    speed = root / "speed" / f"{HELD_OUT_SEQUENCE}.tsv"
    speed.parent.mkdir()
    speed.write_text(SPEED)
    shutil.copy(root / f"renders/{HELD_OUT_SEQUENCE}/capture.mp4", speed.with_suffix(".mp4"))
    words = [
        w for name, value in files.items() for w in (f"--{name}", *(value if isinstance(value, list) else [value]))
    ]
    reported = run_stage(
        "report",
        *("--subject", "ball", *words, "--films", *sorted(root.glob("renders/*/*.mp4"))),
        *("--speed", speed, "--speed-film", speed.with_suffix(".mp4")),
        *(
            "--avatar",
            root / "avatar.safetensors",
            "--benchmarks",
            root / "benchmarks",
            "--output",
            root / "report.html",
            "--sheet",
            root / "contact_sheet.png",
        ),
    )
    assert reported.returncode == 0, reported.stderr
    return root


def test_page_stands_alone(ball: Path) -> None:
    """Every picture and film is inside and not empty; nothing is fetched from anywhere."""
    html = (ball / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.all("img")) > 40
    for image in page.all("img"):
        head, data = image["src"].split(",", 1)
        assert head == "data:image/jpeg;base64"
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert min(picture.shape[:2]) > 5
        assert image["alt"]
    films = page.all("video")
    assert [film["aria-label"] for film in films] == [  # held out first
        f"{HELD_OUT_SEQUENCE}, avatar beside the real head",
        "SMILE, avatar beside the real head",
        f"{HELD_OUT_SEQUENCE}, few and many steps",
    ]
    assert all(b"ftyp" in base64.b64decode(film["src"].split(",", 1)[1])[:16] for film in films)
    assert not page.all("script")
    assert not page.all("link")
    without_data = re.sub(r"data:[a-z]+/[a-z0-9]+;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", without_data)


def test_page_says_what_the_files_say(ball: Path) -> None:
    page = Page((ball / "report.html").read_text(encoding="utf-8"))
    metrics = json.loads((ball / "metrics.json").read_text())
    for rows in metrics.values():
        for row in rows.values():
            assert f"{row['psnr_head']:.2f}" in page.text
    named = ("ball", HELD_OUT_CAMERA, HELD_OUT_SEQUENCE, "pointcloud", "train", "12 min 34 s", "22.0 s", "4321")
    for word in (*named, "0.472", "27.17"):  # the last two are of 20 steps
        assert word in page.text


def driven_head(folder: Path) -> Path:
    """A blue avatar beside its red driver."""
    pictures = np.zeros((5, 32, 48, 3), np.uint8)
    pictures[:, :, :24, 2] = pictures[:, :, 24:, 0] = 255
    write_film(folder / "2~NOD" / "capture.mp4", pictures, frames_per_second=24, seconds=1, scale=1)
    chunk = folder / "2~NOD" / "capture.zarr.zip"
    rgb = Array(pictures[:, None, :, :24], ("time", "camera", "row", "column", "channel"), "sRGB", "blue")
    write_chunk(chunk, {"rgb": rgb}, {"sequence": "2~NOD", "start": 0, "stop": 5})
    return chunk


def test_contact_sheet_is_seven_pictures_wide(ball: Path, tmp_path: Path) -> None:
    with open_material(**files_of(ball)) as material:
        shot = typical_shot(material)
        width, height = contact_sheet(material, shot, factor=2).size
        values = material.headline_psnr()["avatar"]
    assert width >= 7 * 48
    assert height >= 64
    with open_material(**files_of(ball)) as material:
        driven = contact_sheet(material, shot, driven_head(tmp_path), factor=2)
    assert (driven.width, driven.height) == (width, 3 * height)
    (red, _, _), (_, _, blue) = (np.asarray(driven)[row * height + 40, 30].astype(int) for row in (1, 2))
    assert min(red, blue) > 200
    captions = driven_rows(driven_head(tmp_path), 5)[1]
    assert list(captions) == [f"avatar, step {step}" for step in range(5)]  # of the film's first round
    stored = cv2.imread(str(ball / "contact_sheet.png"))
    assert stored.shape[:2] == (height, width)
    assert sorted(values)[1] == values[[0, 1, 2].index(shot.step)]  # the median of three


def test_sheets_choose_in_order(ball: Path) -> None:
    with open_material(**files_of(ball)) as material:
        assert cameras_around(material, Shot("SMILE", 0, "camera0"), 9) == ["camera0", "camera1", "camera2", "camera3"]
        assert cameras_around(material, Shot("SMILE", 0, "camera0"), 2) == ["camera0", "camera3"]
        shots = moments(material, "camera1", 3)
    assert shots == sorted(shots, key=lambda shot: (shot.sequence, shot.step))
    assert {shot.sequence for shot in shots} == {"SMILE", "TURN"}


def test_films_that_find_no_room_lie_beside_the_page(tmp_path: Path) -> None:
    paths = [tmp_path / "renders" / f"S@{number:02d}" / "capture.mp4" for number in range(40)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(10_000))
    films = read_films(paths, tmp_path / "report.html", ["S@07"], embedded_mb=0.05)
    assert [film.inside for film in films] == [True] * 5 + [False] * 35
    assert films[0].name == "S@07"
    for film in films[5:]:
        assert (tmp_path / unquote(film.uri)).read_bytes() == bytes(10_000)
    assert sum(len(film.uri) for film in films) < 80_000


def test_films_come_first_then_the_cost_then_the_tables(ball: Path) -> None:
    text = Page((ball / "report.html").read_text(encoding="utf-8")).text
    titles = ["Films", "Few steps of diffusion", "What it cost", "How good it is", "Real, avatar, difference"]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)


def test_films_of_drivers_name_them_and_count_as_unseen(tmp_path):
    paths = [tmp_path / "renders" / name / "capture.mp4" for name in ("A", "2~NOD")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a film")
    driven, own = read_films(paths, tmp_path / "report.html", [], embedded_mb=1)
    assert (driven.title, driven.held_out) == ("driven by 2, who is beside", True)
    assert (own.title, own.held_out) == ("avatar beside the real head", False)


def test_page_without_headline_pictures(ball: Path, tmp_path: Path) -> None:
    """Nothing held out both ways: the page shows rendered pictures, and the table the splits there are."""
    files = files_of(ball)
    lists = [word for name in ("renders", "targets", "buffers", "tracks") for word in (f"--{name}", *files[name])]
    changed = {
        "metrics": tmp_path / "metrics.json",
        "figures": tmp_path / "figures.tsv",
        "comparison": tmp_path / "comparison.zarr.zip",
    }
    done = run_stage(
        "evaluate",
        *(*lists, "--rig", files["rig"], "--settings", '{"colour_cell": 0.05}'),
        *("--held-out-cameras", HELD_OUT_CAMERA, "--held-out-sequences", ""),
        *("--output", changed["metrics"], "--comparison", changed["comparison"]),
        *("--pictures", tmp_path / "pictures.tsv", "--figures", changed["figures"]),
    )
    assert done.returncode == 0, done.stderr
    with open_material(**{**files, **changed}) as material:
        page = Page(render(context("ball", material, [], [], [], {}, ReportSettings(cameras=2, moments=2))))
    assert "known expression, new camera" in page.text.lower()
    assert "new expression, new camera" not in page.text.lower()


def test_run_times_add_up(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "train.tsv", 10)
    write_benchmark(tmp_path / "mesh" / "A" / "0.tsv", 4)
    write_benchmark(tmp_path / "mesh" / "B" / "0.tsv", 8)
    times = records.rule_times(tmp_path)
    assert [(time.rule, time.jobs, time.wall_s) for time in times] == [("mesh", 2, 12), ("train", 1, 10)]
    assert times[0].cpu_s == pytest.approx(10.8)
    assert times[0].memory_mb == 512.5


def test_a_foreign_table_of_speeds_is_named(tmp_path: Path) -> None:
    (tmp_path / "A.tsv").write_text("steps\tpictures_per_s\n1\t2\n")
    with pytest.raises(DataError, match=r"A\.tsv: expected a table with the columns steps, pictures_per_s, psnr_head"):
        records.speed_rows(tmp_path / "A.tsv")


def test_an_avatar_without_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "avatar.safetensors").write_bytes(b"no header")
    with pytest.raises(DataError, match=r"avatar\.safetensors: no avatar"):
        records.stage_settings([], tmp_path / "avatar.safetensors")


def test_a_foreign_benchmark_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("seconds\n3\n")
    with pytest.raises(DataError, match=r"train\.tsv: expected Snakemake's benchmark columns"):
        records.rule_times(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "words"), [(8.23, "8.2 s"), (185, "3 min 05 s"), (3599, "59 min 59 s"), (7799, "2 h 10 min")]
)
def test_duration(seconds: float, words: str) -> None:
    assert records.duration(seconds) == words


def test_best_of_a_split_and_the_gain() -> None:
    rows = {
        "avatar": {"psnr_head": 24.0, "flip": 0.1},
        "mesh_colour": {"psnr_head": 21.5, "flip": 0.05},
        "nearest_frame": {"psnr_head": 22.0, "flip": 0.2},
    }
    intervals = {("avatar", "flip"): (0.08, 0.12), ("mesh_colour", "flip"): (0, 1)}
    cells = records.metric_cells(rows, records.FIGURES, intervals)
    assert list(cells) == ["avatar", "mesh_colour", "nearest_frame"]
    assert [cells[name]["psnr_head"].best for name in cells] == [True, False, False]
    assert [cells[name]["flip"].best for name in cells] == [False, True, False]
    assert cells["mesh_colour"]["flip"].delta == "-0.050"
    assert cells["avatar"]["flip"].delta == "0.080 to 0.120"
    assert cells["avatar"]["psnr_head"].delta == ""
    assert records.gain_db({"heldout_both": rows}) == 2.0
    assert records.gain_db({"heldout_both": {}}) is None


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_enclose_the_values(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    slack = 1e-9 * (abs(low) + span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 9


def test_a_plot_of_many_long_sequences_stays_light() -> None:
    """Twenty sequences of 25,000 steps: their six worst, thinned; a peak is still seen."""
    rng = np.random.default_rng(0)
    lines = [Line(f"S{number:02d}", 0.3 + 0.01 * number + 0.01 * rng.random(25_000)) for number in range(20)]
    lines[3].values[9_000:9_500] = 40
    kept = worst(lines)
    assert [line.name for line in kept] == ["S03", "S15", "S16", "S17", "S18", "S19"]
    svg = line_plot(kept, "x", "y", from_zero=True)
    assert len(svg) < 60_000
    assert "<circle" not in svg
    peak = re.search(r'points="([^"]+)"', svg)[1].split()
    assert min(float(point.split(",")[1]) for point in peak) < 60  # near the top of the plot


def test_plot_escapes_names_and_stays_inside() -> None:
    svg = line_plot([Line("<b>", np.array([1.0, 3.0])), Line("one", np.array([2.0]))], "x", "y", from_zero=True)
    assert "<b>" not in svg
    heights = [float(value) for value in re.findall(r'cy="([\d.]+)"', svg)]
    assert len(heights) == 3
    assert all(0 <= value <= 240 for value in heights)


def test_cloud_tile_keeps_the_nearest_point() -> None:
    """Against a plain loop over points and pixels."""
    camera = make_rig(3, 12, 16).cameras[1]
    random = np.random.default_rng(0)
    points, colors = random.uniform(-0.1, 0.1, (60, 3)), random.integers(0, 255, (60, 3)).astype(np.uint8)
    expected = np.full((16, 12, 3), 255, np.uint8)
    nearest = np.full((16, 12), np.inf)
    for point, color in zip(points, colors, strict=True):
        pixel, depth = camera.project(point)
        x, y = np.floor(pixel).astype(int)
        for row in range(y - 1, y + 2):
            for column in range(x - 1, x + 2):
                if 0 <= row < 16 and 0 <= column < 12 and depth < nearest[row, column]:
                    nearest[row, column] = depth
                    expected[row, column] = color
    np.testing.assert_array_equal(tiles.cloud(camera, points, colors), expected)


@settings(max_examples=10, deadline=None)
@given(st.floats(-3, 6), st.floats(-3, 6), st.sampled_from([0.5, 0.75, 1.0, 2.0]))
def test_crop_of_a_frame_is_the_crop_cameras_view(left: float, top: float, scale: float) -> None:
    """A smooth picture of pixel places, cropped, holds the source places of the crop's pixels."""
    source = make_rig(2, 48, 64).cameras[0]
    crop = source.crop(left + 8, top + 8, scale, 12, 12)
    x, y = np.meshgrid(np.arange(48) + 0.5, np.arange(64) + 0.5)
    seen = tiles.crop_like(np.stack([4 * x, 3 * y, 0 * x], -1).astype(np.uint8), source, crop)
    centres = np.arange(12) + 0.5
    np.testing.assert_allclose(seen[6, :, 0], 4 * (left + 8 + centres * scale), atol=2.5)
    np.testing.assert_allclose(seen[:, 6, 1], 3 * (top + 8 + centres * scale), atol=2.5)


def test_colour_tiles_stay_in_range() -> None:
    camera = make_rig(2, 24, 32).cameras[0]
    view = see(camera, "SMILE", 1)
    mesh = tiles.shaded(camera, view.normals, view.mask)
    assert mesh.dtype == np.uint8
    assert (mesh[~view.mask] == 255).all()
    row, column = np.argwhere(view.mask).mean(0).astype(int)
    assert mesh[row, column].min() > mesh[view.mask].min()  # facing the camera is brighter, nothing wraps round
    black = tiles.error_colors(view.rgb, view.rgb)
    assert black.max() < 10
