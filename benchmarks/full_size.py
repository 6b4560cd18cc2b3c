"""What a capture of full size costs by stage, as whole processes: CPU seconds, peak memory, bytes. Last line: JSON.

    python -m benchmarks.full_size --folder DIR [--sizes 550 1100] [--spans 2 8] [--stages ingest pointcloud]

DIR holds the capture (made first, by `benchmarks.full_capture`: 13 cameras at 2200x3300, 8 frames, H.264), the results
of every stage and, beside them, what was measured: a later call measures what it is asked for and reads the rest, so
the whole can be done in pieces. A span is made from the capture on, with the span's steps as its whole sequence.

cpu_s_step is what a stage takes for each further step, cpu_s_start what it takes besides, from the shortest and the
longest span. peak_gb is the resident memory of the process, limit_gb what its rule allows. The avatar's pictures are
512x512, as the preset paper has them. participant_*: what these figures make of 12 sequences and 3,000 time steps in
spans of 30 (13 cameras). buffer_bytes_ratio: buffers on disk to the rasteriser's float32 packed with LZ4.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.planning.memory import STEP, Scene, limit_mb

ROOT = Path(__file__).resolve().parents[1]
CAMERAS, RECORDED, RENDERED = 13, (2200, 3300), (512, 512)
PRIOR = ROOT / "pipeline/head/weights/head_prior.safetensors"
SUBJECT, SEQUENCE = "901", "EXP-5-mouth"
STAGES = (
    *("calibrate", "ingest", "detect", "triangulate", "pointcloud", "fit_identity", "fit_sequence", "mesh", "rig"),
    *("rasterize", "isolate"),
)
SHORT, LONG = 2, 8
WITHOUT_PICTURES = {"rig": 1000}  # megabytes that the rules allow
OF_SEQUENCE, ONCE = ("triangulate", "fit_sequence"), ("calibrate", "fit_identity", "rig")
SEQUENCES, STEPS, SPAN, JOBS = 12, 3000, 30, 100  # of a participant of NeRSemble, every third frame


def arguments(stage: str, width: int, steps: int, capture: Path, folder: Path) -> tuple[list[object], Path]:
    """A stage's arguments as its rule gives them, and the file it makes."""
    made = {name: folder / f"{name}.zarr.zip" for name in STAGES}
    made |= {name: folder / f"{name}.json" for name in ("calibrate", "rig")}
    made["fit_identity"] = folder / "fit_identity.safetensors"
    cameras, frames = ["--cameras", made["calibrate"]], ["--frames", made["ingest"]]
    names = ["--subject", SUBJECT, "--sequence", SEQUENCE]
    span = [*names, "--start", 0, "--stop", steps]
    prior, points = ["--prior", PRIOR], ["--points", made["triangulate"]]
    identity, track = ["--identity", made["fit_identity"]], ["--track", made["fit_sequence"]]
    given = ["--clouds", made["pointcloud"], *frames, *points]
    listed = {
        "calibrate": ["--settings", json.dumps({"scale": width / RECORDED[0]}), "--sequence", SEQUENCE],
        "ingest": [*span, *cameras, "--frames", LONG],
        "detect": [*span, *cameras, *frames],
        "triangulate": [*names, *cameras, *frames, "--detections", made["detect"]],
        "pointcloud": [*span, *prior, *cameras, *frames, *points],
        "fit_identity": [*prior, *cameras, *given],
        "fit_sequence": [*names, *prior, *identity, *cameras, *given],
        "mesh": [*span, *prior, *identity, *track],
        "rig": ["--settings", json.dumps(dict(zip(("width", "height"), RENDERED, strict=True))), "--rig", "capture"],
        "rasterize": [*span, "--meshes", made["mesh"], "--rig", made["rig"]],
        "isolate": [*span, *cameras, *frames, *track, "--rig", made["rig"], "--buffers", made["rasterize"]],
    }
    listed["rig"] += [*cameras, *identity]
    where = ["--capture", capture] if stage in ("calibrate", "ingest") else []
    return [*listed[stage], *where, "--output", made[stage]], made[stage]


def measure(stage: str, width: int, steps: int, capture: Path, folder: Path) -> dict[str, float]:
    """Run a stage as a process of its own: CPU seconds, peak gigabytes, bytes of its file."""
    folder.mkdir(parents=True, exist_ok=True)
    options, output = arguments(stage, width, steps, capture, folder)
    command = [sys.executable, "-m", f"pipeline.stages.{stage}", *map(str, options)]
    log = folder / f"{stage}.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage} failed, see {log}: {log.read_text().strip().splitlines()[-1]}")
    found = {
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss * 1024 / 1e9,
        "bytes": output.stat().st_size,
    }
    (folder / f"{stage}.measured.json").write_text(json.dumps(found))
    return found


def table(folder: Path, width: int) -> dict[str, dict[str, float]]:
    """The figures of one size by stage, of the spans that were measured."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for steps in (SHORT, LONG):
        for stage in STAGES:
            path = folder / f"{width}" / f"{steps}" / f"{stage}.measured.json"
            if path.is_file():
                found.setdefault(stage, {})[steps] = json.loads(path.read_text())
    return {stage: summary(stage, found[stage]) for stage in STAGES if stage in found}


def summary(stage: str, spans: dict[int, dict[str, float]]) -> dict[str, float]:
    """One stage's figures from what was measured for one span or two."""
    steps = max(spans)
    result = {f"peak_gb_span_{count}": round(row["peak_gb"], 3) for count, row in spans.items()}
    if len(spans) == 2:
        slope = (spans[LONG]["cpu_s"] - spans[SHORT]["cpu_s"]) / (LONG - SHORT)
        result |= {"cpu_s_step": round(slope, 3), "cpu_s_start": round(spans[LONG]["cpu_s"] - LONG * slope, 2)}
    else:
        result |= {"cpu_s_step": round(spans[steps]["cpu_s"] / steps, 3)}
    result["mb_step"] = round(spans[steps]["bytes"] / steps / 1e6, 3)
    scene = Scene(CAMERAS, RECORDED[0] * RECORDED[1], RENDERED[0] * RENDERED[1])
    result["limit_gb"] = (limit_mb(stage, scene, 1) if stage in STEP else WITHOUT_PICTURES[stage]) / 1e3
    return result


def buffer_bytes_ratio(folder: Path) -> float:
    """Bytes of the stored buffers of a step to what the rasteriser drew for its first step, packed with LZ4."""
    from benchmarks.buffers import as_float32
    from pipeline.cameras.rig import read_rig
    from pipeline.mesh.mesh import count_meshes, read_meshes
    from pipeline.raster.backends.embree import EmbreeRasterizer
    from pipeline.raster.buffers import rasterize

    meshes = folder / "mesh.zarr.zip"
    as_float32(folder, rasterize(EmbreeRasterizer(), next(read_meshes(meshes)), read_rig(folder / "rig.json").cameras))
    stored = (folder / "rasterize.zarr.zip").stat().st_size / count_meshes(meshes)
    return stored / (folder / "float32.zarr.zip").stat().st_size


def participant(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """What a whole participant costs, by the figures of one size: hours of one core, and on JOBS cores; gigabytes.

    Stages of a span start once a span, fits of a sequence once a sequence, the identity is fitted once. On many cores
    spans share them evenly, and wait for the identity and for one sequence's fit.
    """
    starts = dict.fromkeys(STAGES, -(-STEPS // SPAN)) | dict.fromkeys(OF_SEQUENCE, SEQUENCES) | dict.fromkeys(ONCE, 1)
    # the identity is fitted to a fixed number of key frames, so it costs what it costs here
    steps = {stage: LONG if stage in ONCE else STEPS for stage in STAGES}
    seconds = {
        stage: starts[stage] * row.get("cpu_s_start", 0) + steps[stage] * row["cpu_s_step"]
        for stage, row in rows.items()
    }
    alone = sum(
        seconds[stage] / (SEQUENCES if stage in OF_SEQUENCE else 1)
        for stage in (*OF_SEQUENCE, *ONCE)
        if stage in seconds
    )
    shared = sum(spent for stage, spent in seconds.items() if stage not in (*OF_SEQUENCE, *ONCE))
    return {
        "hours_one_core": round(sum(seconds.values()) / 3600, 1),
        f"hours_{JOBS}_cores": round((shared / JOBS + alone) / 3600, 2),
        "gb": round(sum(row["mb_step"] * steps[stage] for stage, row in rows.items()) / 1e3, 1),
    }


def show(width: int, rows: dict[str, dict[str, float]]) -> None:
    """One size as a table."""
    columns = ("cpu_s_step", "cpu_s_start", "peak_gb_span_2", "peak_gb_span_8", "limit_gb", "mb_step")
    print(f"\n| {width}x{width * 3 // 2} | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for stage, row in rows.items():
        print(f"| {stage} | " + " | ".join(f"{row[name]:.3g}" if name in row else "" for name in columns) + " |")


def main(words: Sequence[str] | None = None) -> None:
    """Measure what is asked for, print all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder; some 3 GB")
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"), help="what is enlarged")
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--sizes", type=int, nargs="*", default=[550, 1100], help="widths of the working pictures")
    parser.add_argument("--spans", type=int, nargs="*", choices=(SHORT, LONG), default=[SHORT, LONG])
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES)
    options = parser.parse_args(words)
    folder = options.folder.resolve()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if not (folder / "capture").is_dir():
        # a process of its own: a child's peak memory begins with what its parent holds
        source = ["--capture", options.capture.resolve(), "--truth", options.truth.resolve()]
        command = [sys.executable, "-m", "benchmarks.full_capture", folder / "capture", *source, "--sequence", SEQUENCE]
        subprocess.run([*map(str, command), "--frames", str(LONG)], cwd=ROOT, check=True)
    for width in options.sizes:
        for steps in options.spans:
            for stage in [stage for stage in STAGES if stage in options.stages]:
                found = measure(stage, width, steps, folder / "capture", folder / f"{width}" / f"{steps}")
                shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
                print(f"{width}, {steps} steps, {stage}: {shown}", file=sys.stderr, flush=True)
    rows = {width: found for width in (550, 1100) if (found := table(folder, width))}
    for width, found in rows.items():
        show(width, found)
    result: dict[str, object] = {f"{width}": found for width, found in rows.items()}
    result |= {f"participant_{width}": participant(found) for width, found in rows.items()}
    for steps in (SHORT, LONG):
        peaks = [row[f"peak_gb_span_{steps}"] for row in rows.get(1100, {}).values() if f"peak_gb_span_{steps}" in row]
        result[f"peak_gb_span_{steps}"] = max(peaks, default=None)
    made = [path.parent for path in sorted(folder.glob("1100/*/rasterize.measured.json"))]
    result["buffer_bytes_ratio"] = round(buffer_bytes_ratio(made[-1]), 4) if made else None
    print(json.dumps(result))


if __name__ == "__main__":
    main()
