"""config.yaml and captures.tsv: what is accepted, and one clear line for what is not."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import cli
from pipeline.errors import ConfigError
from pipeline.planning import config, plan, reference, text
from pipeline.planning import table as table_reader
from pipeline.planning.memory import STEP, Scene, limit_mb, prior_limit_mb
from pipeline.planning.minutes import STEP as TIMES
from pipeline.planning.minutes import limit_minutes
from pipeline.provenance import ROOT
from pipeline.settings.ingest import IngestSettings
from pipeline.settings.prior import PriorSettings
from pipeline.settings.rig import RigSettings
from pipeline.settings.train import TrainSettings

DEMO = yaml.safe_load((ROOT / "config.yaml").read_text())


def changed(key: str, value: object) -> dict:
    """The demo's config with one dotted key set."""
    result = copy.deepcopy(DEMO)
    *parents, name = key.split(".")
    section = result
    for parent in parents:
        section = section.setdefault(parent, {})
    section[name] = value
    return result


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture folder with nothing but the names of three cameras."""
    (tmp_path / "capture/calibration").mkdir(parents=True)
    cameras = {"world_2_cam": {name: [] for name in ("c", "a", "b")}}
    (tmp_path / "capture/calibration/camera_params.json").write_text(json.dumps(cameras))
    for sequence in ("a", "b", "s", "first"):
        for name in cameras["world_2_cam"]:
            video = tmp_path / "capture/sequences" / sequence / f"images/cam_{name}.mp4"
            video.parent.mkdir(parents=True, exist_ok=True)
            video.touch()
    return tmp_path / "capture"


def table(capture: Path, *rows: str) -> Path:
    """captures.tsv with these rows; FOLDER stands for the capture."""
    path = capture.parent / "captures.tsv"
    lines = ["subject\tsequence\tfolder\tframes", *rows]
    path.write_text("\n".join(lines).replace("FOLDER", str(capture)) + "\n")
    return path


def test_demo_config_is_valid_and_its_plan_is_the_demo():
    demo = config.load(DEMO).plan()
    assert demo.subjects() == ["901", "902"]
    assert demo.training("901") == ["EXP-5-mouth", "EMO-1-shout+laugh"]
    assert len(demo.cameras("901")) == 13
    assert demo.spans("901", "EXP-2-eyes") == ["000000-000008", "000008-000012"]
    assert demo.actor("901", "902~FREE") == ("902", "FREE")
    assert demo.spans("901", "902~FREE") == demo.spans("902", "FREE")


def test_a_missing_head_prior_says_where_each_kind_comes_from(tmp_path):
    path = tmp_path / "prior.safetensors"
    chosen = config.load(changed("head_prior", str(path)))
    with pytest.raises(
        ConfigError, match=r"prior\.safetensors; one is shipped.*stages\.prior.*pipeline\.head\.convert"
    ):
        chosen.check_paths()
    path.touch()
    chosen.check_paths()
    config.load(changed("head_prior", "results/head_prior.safetensors")).check_paths()  # a rule makes it


def test_schema_and_page_of_settings_are_fresh():
    for path, content in reference.files().items():
        assert path.read_text(encoding="utf-8") == content, f"{path}: run python -m pipeline.planning.reference"


def test_results_that_are_a_file_and_paths_with_braces_are_one_line(tmp_path):
    (tmp_path / "taken").touch()
    for key, value, message in (
        ("results", str(tmp_path / "taken"), "taken is a file; expected a folder, or nothing yet"),
        ("results", str(tmp_path / "taken/deeper"), "taken is a file; expected a folder, or nothing yet"),
        ("results", "a{curly}", "config: results: 'a{curly}' has a { in it"),
        ("ict_facekit", "<a>", "config: ict_facekit: '<a>' has a < in it"),
    ):
        with pytest.raises(ConfigError) as error:
            config.load(changed(key, value)).check_paths()
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_files_that_are_no_utf8_and_no_yaml_are_named_with_their_line(tmp_path, capture):
    path = tmp_path / "config.yaml"
    for content, message in (
        ("a: 1\nb: é\n".encode("latin-1"), "config.yaml: line 2 is not UTF-8; expected the file to be saved as UTF-8"),
        (b"a: 1\nb: [1\nc: 2\n", "config.yaml: line 3: "),
        (b"# all of it\n", "config.yaml: holds nothing; expected keys"),
        (b"- a\n", "config.yaml: holds a list; expected keys"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            text.check_yaml(path)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    written = table(capture, "é\ts\tFOLDER\t4")
    written.write_bytes(written.read_text(encoding="utf-8").encode("latin-1"))
    with pytest.raises(ConfigError, match=r"captures\.tsv: line 2 is not UTF-8"):
        table_reader.read_table(written)


def test_memory_grows_with_cameras_and_pictures_and_knows_no_span():
    small = Scene(13, 550 * 802, 144 * 192, steps=100)
    large = Scene(16, 2200 * 3208, 512 * 512, voxel_mm=1, steps=1000, film_pixels=8, longest=3000)
    for stage in STEP:
        assert 0 < limit_mb(stage, small, 1) <= 8000, stage
        assert limit_mb(stage, small, 1) < limit_mb(stage, large, 1) < 16_000, stage
    # peaks of whole processes at the demo's size, as Snakemake's benchmark files have them
    demo = Scene(13, 256 * 384, 144 * 192)
    peaks = {
        "calibrate": 606,
        "ingest": 374,
        "detect": 106,
        "pointcloud": 487,
        "fit_identity": 652,
        "fit_sequence": 784,
    }
    peaks |= {"rasterize": 155, "isolate": 172, "train": 1361, "render": 587, "speed": 613, "triangulate": 85}
    peaks |= {"mesh": 475, "fit_quality": 193, "evaluate": 658, "report": 198}
    peaks |= {"rig": 90, "retarget": 337}
    for stage, peak in peaks.items():
        assert limit_mb(stage, demo, 1) > 1.5 * peak, stage
    assert limit_mb("train", Scene(16, 0, 512 * 512, pretrained=True), 1) > 13_200 + 4000
    assert limit_mb("render", Scene(16, 0, 512 * 512, pretrained=True), 1) > 14_300


def test_no_rule_has_a_fixed_memory_limit():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert not re.findall(r"mem_mb=\d+", rules)
    assert prior_limit_mb(PriorSettings()) < prior_limit_mb(PriorSettings(heads=30_000)) < 16_000


def test_time_limits_grow_with_the_span():
    demo = Scene(13, 256 * 384, 144 * 192)
    for stage in TIMES:
        short, long = limit_minutes(stage, demo, 8), limit_minutes(stage, demo, 1024)
        assert 30 <= short < 60 < 24 * 60, stage
        assert short < long < 24 * 60, stage
    assert 60 * limit_minutes("pointcloud", demo, 1024) > 2 * 6.7 * 1024  # CPU seconds it took, twice


def test_the_demos_pictures_are_measured():
    demo = config.load(DEMO).plan()
    with Image.open(next(iter(demo.capture("901").plates().values()))) as picture:
        assert demo.largest_picture("901") == picture.width * picture.height


def test_every_stage_has_settings_that_say_what_they_mean():
    sections = config.stage_sections()
    stages = {path.stem for path in (ROOT / "pipeline/stages").glob("[a-z]*.py")}
    assert sections.keys() == stages
    for name, section in sections.items():
        assert all(field.description for field in section.model_fields.values()), name


def test_one_device_for_all_stages_that_know_one_but_for_those_that_say_so():
    chosen = config.load(DEMO | {"device": "cuda", "mesh": {"device": "cpu"}})
    holding = {name for name in config.stage_sections() if getattr(chosen, name).gpus}
    assert holding == {"fit_identity", "fit_sequence", "train", "distill", "render", "speed"}
    backends = config.load(DEMO | {"rasterize": {"backend": "nvdiffrast"}, "pointcloud": {"backend": "colmap_cuda"}})
    assert {name for name in config.stage_sections() if getattr(backends, name).gpus} == {"rasterize", "pointcloud"}
    with pytest.raises(ConfigError, match="config: device: Input should be 'cpu' or 'cuda'; it is 'gpu'"):
        config.load(DEMO | {"device": "gpu"})


def test_settings_that_affect_no_result_reach_a_stage_beside_its_command(monkeypatch):
    """So that Snakemake, which compares commands, runs no training again for them."""
    loaded = config.load(changed("train", {"seed": 3, "save_every": 7}))
    assert "save_every" not in json.loads(loaded.stage("train"))
    assert json.loads(loaded.stage("train", whole=True))["save_every"] == 7
    monkeypatch.setenv(cli.ASIDE, loaded.aside())
    parser = cli.parser(None, TrainSettings)
    assert parser.parse_args(["--settings", loaded.stage("train")]).settings == loaded.train
    assert parser.parse_args(["--settings", '{"save_every": 9}']).settings.save_every == 9  # what is given wins
    with pytest.raises(SystemExit):
        parser.parse_args(["--settings", "[1]"])


def test_settings_of_a_stage_are_had_by_their_class():
    chosen = config.load(changed("ingest.stride", 3))
    assert chosen.of(IngestSettings).stride == 3
    assert chosen.of(RigSettings) == RigSettings()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.draw", "embree", "config: train.draw: is called train.buffers now"),
        ("distill.draw", "stored", "config: distill.draw: is called distill.buffers now"),
        ("ingest.strid", 2, "config: ingest.strid: unknown key; allowed: background_levels, "),
        ("ingest.stride", 0, "config: ingest.stride: Input should be greater than or equal to 1; it is 0"),
        ("span", "long", "config: span: Input should be a valid integer"),
        ("split.cameras", [], "config: split.cameras: List should have at least 1 item"),
        (
            "calibrate.metres_per_unit",
            float("inf"),
            "config: calibrate.metres_per_unit: Input should be a finite number",
        ),
        ("nonsense", 1, "config: nonsense: unknown key; allowed: ablations, animate, avatars, "),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key(key, value, message):
    with pytest.raises(ConfigError) as error:
        config.load(changed(key, value))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_every_fault_gets_its_own_line_and_a_missing_key_says_what_is_expected():
    broken = changed("ingest.stride", 0)
    del broken["captures"]
    with pytest.raises(ConfigError) as error:
        config.load(broken)
    assert str(error.value).splitlines() == [
        "config: captures: missing; expected table of the recordings: subject, sequence, folder, frames",
        "config: ingest.stride: Input should be greater than or equal to 1; it is 0",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "split.sequences",
            ["EXP-9"],
            "split.sequences: unknown 'EXP-9'; allowed: EMO-1-shout+laugh, EXP-2-eyes, EXP-5",
        ),
        ("split.cameras", [1], "split.cameras: unknown '1'; allowed for subject 901: 220700191, 222200036, "),
        ("films.cameras", ["2"], "films.cameras: unknown '2'; allowed for subject 901: 220700191, "),
        ("films.orbits", ["EXP-9"], "films.orbits: unknown 'EXP-9'; allowed: EXP-5-mouth, "),
        (
            "split.sequences",
            ["EXP-5-mouth", "EMO-1-shout+laugh", "EXP-2-eyes"],
            "split.sequences: holds out all of subject 901; nothing is left to train on",
        ),
        ("captures", "nothing.tsv", "nothing.tsv: no such file; expected a table with the columns subject, "),
        ("avatars", ["903"], "avatars: unknown '903'; allowed: 901, 902"),
        ("films.drivers", ["902"], "films.drivers: unknown '902'; allowed: 901~EXP-5-mouth, "),
    ],
)
def test_a_name_that_the_captures_lack_is_one_line_with_the_allowed_ones(key, value, message):
    with pytest.raises(ConfigError) as error:
        config.load(changed(key, value)).plan()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1\ts\tFOLDER\t0", "row 2, column frames: '0'; expected a whole number of at least 1, or nothing"),
        ("1\ts\tFOLDER\tten", "row 2, column frames: 'ten'; expected a whole number of at least 1, or nothing"),
        ("1\ts\tnowhere\t4", "row 2, column folder: no folder nowhere"),
        ("1\ts\ta{b}\t4", "row 2, column folder: 'a{b}' has a { in it; expected none"),
        ("1\ta{b}\tFOLDER\t4", "row 2, column sequence: 'a{b}' has a { in it; expected none"),
        ("1\ta/b\tFOLDER\t4", "row 2, column sequence: 'a/b' cannot be the name of a folder"),
        ("1~2\ta\tFOLDER\t4", "row 2, column subject: '1~2' cannot be the name of a folder"),
        ("1\tfirst\tFOLDER\t4", "row 2, column sequence: first of 1 was named before"),
        ("1\ts\tFOLDER\t4\tmore", "row 2: more than 4 columns"),
    ],
)
def test_a_wrong_row_names_row_and_column(capture, row, message):
    path = table(capture, "1\tfirst\tFOLDER\t4", row)
    with pytest.raises(ConfigError) as error:
        table_reader.read_table(path)
    assert str(error.value) == f"{path}: {message}"


def test_wrong_columns_and_an_empty_table(capture):
    path = table(capture)
    with pytest.raises(ConfigError, match="no rows; expected one per subject and sequence"):
        table_reader.read_table(path)
    path.write_text("subject,sequence\n")
    with pytest.raises(ConfigError, match=r"columns are .* expected .*separated by tabs"):
        table_reader.read_table(path)


def test_a_capture_without_calibration_is_named(capture):
    recordings = table_reader.read_table(table(capture, "1\ta\tFOLDER\t4", "1\tb\tFOLDER\t4"))
    file = capture / "calibration/camera_params.json"
    for content, message in (("{}", "no object with world_2_cam"), (None, "no such file; expected the calibration of")):
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        with pytest.raises(ConfigError, match=message):
            plan.Plan(recordings, 1, 2, ["a"], ["b"]).check()


def test_stride_counts_time_steps(capture):
    recordings = table_reader.read_table(table(capture, "1\ta\tFOLDER\t7", "1\tb\tFOLDER\t6"))
    sevens = plan.Plan(recordings, 3, 2, ["a"], ["b"])
    assert sevens.spans("1", "a") == ["000000-000002", "000002-000003"]
    assert sevens.spans("1", "b") == ["000000-000002"]


@given(steps=st.integers(1, 500), length=st.integers(1, 600))
def test_spans_tile_the_sequence(steps, length):
    bounds = [tuple(map(int, span.split("-"))) for span in plan.spans(steps, length)]
    assert [bounds[0][0], *(stop for _, stop in bounds)] == [*(start for start, _ in bounds), steps]
    assert all(stop - start == length for start, stop in bounds[:-1])
    assert 0 < bounds[-1][1] - bounds[-1][0] <= length


@given(steps=st.integers(1, 10**6))
def test_a_long_sequence_has_few_spans(steps):
    length = plan.span_length(steps)
    assert 1 <= len(plan.spans(steps, length)) <= 32
    assert length == 8 or len(plan.spans(steps, length // 2)) > 32
    assert length in (8 * 2**k for k in range(20))


def test_settings_of_a_stage_do_not_depend_on_the_order_of_keys():
    one = config.load(changed("ingest", {"stride": 2, "person_levels": 40}))
    other = config.load(changed("ingest", {"person_levels": 40, "stride": 2}))
    assert one.stage("ingest") == other.stage("ingest")
    assert json.loads(one.stage("ingest"))["stride"] == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_spreadsheets_table_is_read(capture, encoding):
    """A byte order mark, UTF-16, spaces at cells' ends, no frames, empty columns and rows, Windows' line ends: what
    spreadsheets and people write."""
    path = table(capture)
    rows = ("subject \tsequence\tfolder\t\t", f"1\ta \t{capture}", "\t\t\t\t\t", f" 1\tb\t{capture}\t\t\t")
    path.write_bytes("".join(f"{row}\r\n" for row in rows).encode(encoding))
    assert table_reader.read_table(path) == [table_reader.Recording("1", name, capture) for name in "ab"]


def test_a_table_in_no_known_encoding_is_one_line(capture):
    path = table(capture)
    path.write_bytes(b"subject\tsequence\tfolder\n\xe9\ta\tb\n")
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        table_reader.read_table(path)


def test_a_stretch_of_a_recording_is_a_sequence(capture):
    """The last share of time held out where a capture has one sequence."""
    rows = table_reader.read_table(table(capture, "1\ta@0-7\tFOLDER", "1\ta@7-10\tFOLDER"))
    halves = plan.Plan(rows, 2, 2, ["a"], ["a@7-10"])
    halves.check()
    assert halves.training("1") == ["a@0-7"]
    assert [halves.steps("1", name) for name in ("a@0-7", "a@7-10")] == [4, 2]
    assert [halves.declared("1", name) for name in ("a@0-7", "a@7-10")] == [7, 10]
    with pytest.raises(ConfigError, match="sequence a@7-7: an empty stretch"):
        table_reader.frames_of(table_reader.Recording("1", "a@7-7", capture))


def test_a_camera_that_lacks_a_sequence_is_left_out_aloud(capture):
    rows = table_reader.read_table(table(capture, "1\ta\tFOLDER\t4", "1\tb\tFOLDER\t4", "2\ta\tFOLDER\t4"))
    (capture / "sequences/b/images/cam_c.mp4").unlink()
    sparse = plan.Plan(rows, 1, 2, ["c"], [])
    sparse.check()
    assert (sparse.cameras("1"), sparse.cameras("2")) == (["a", "b"], ["a", "b", "c"])
    assert sparse.notes() == ["captures: subject 1: camera c recorded nothing of b: left out of all its sequences"]
    sparse.check_split(["2"])  # a driver's rig may lack the held-out camera
    with pytest.raises(ConfigError, match=r"split\.cameras: unknown 'c'; allowed for subject 1: a, b"):
        sparse.check_split(["1"])
    with pytest.raises(ConfigError, match="subject 1 has no sequence nothing; its folder has a, b, first, s"):
        plan.Plan([table_reader.Recording("1", "nothing", capture, 4)], 1, 2, ["a"], []).check()


def test_frames_that_the_table_leaves_out_are_counted(tiny_capture):
    row = table_reader.Recording("1", "EXP-5-mouth", tiny_capture)
    assert table_reader.frames_of(row) == 3


def test_a_held_out_camera_with_a_comma_is_refused_before_it_becomes_two(capture):
    rows = table_reader.read_table(table(capture, "1\ta\tFOLDER\t4"))
    with pytest.raises(ConfigError, match=r"split.cameras: 'a,b' has a comma in it"):
        plan.Plan(rows, 1, None, ["a,b"], []).check_split(["1"])
