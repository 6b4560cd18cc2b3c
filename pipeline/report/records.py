"""What the report says in tables: figures, run times, settings and the machine."""

import csv
import json
import os
import platform
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipeline.errors import DataError
from pipeline.store.made_by import KEY
from pipeline.store.reel import Reel

LESS_IS_BETTER = {"flip_head", "flip", "flicker", "lpips_head", "lpips", "akd", "lpips_paper", "akd_paper"}
FIGURES = {
    "psnr_head": "PSNR head, dB",
    "ssim_head": "SSIM head",
    "flip_head": "FLIP head",
    "lpips_head": "LPIPS head",
    "psnr_eyes": "PSNR eyes, dB",
    "psnr_mouth": "PSNR mouth, dB",
    "jod": "JOD",
    "psnr": "PSNR frame, dB",
    "ssim": "SSIM frame",
    "flip": "FLIP frame",
    "lpips": "LPIPS frame",
    "ms_ssim": "MS-SSIM frame",
    "flicker": "flicker, levels",
    "akd": "AKD, px of 512",
    "csim": "CSIM",
    "face_found": "faces found",
}
PAPER_FIGURES = {
    "psnr_paper": "PSNR, dB",
    "ssim_paper": "SSIM",
    "ms_ssim_paper": "MS-SSIM",
    "lpips_paper": "LPIPS",
    "akd_paper": "AKD, px of 512",
    "csim_paper": "CSIM",
}
FIT_FIGURES = {
    "face_cloud_to_mesh_median_mm": "face: cloud to mesh, median mm",
    "face_cloud_to_mesh_mm": "face: cloud to mesh, mm",
    "face_coverage": "face: share that the cloud covers",
    "cloud_to_mesh_median_mm": "cloud to mesh, median mm",
    "cloud_to_mesh_mm": "cloud to mesh, mm",
    "mesh_to_cloud_mm": "mesh to cloud, mm",
    "f_score_1mm": "F-score at 1 mm",
    "f_score_2.5mm": "at 2.5 mm",
    "f_score_5mm": "at 5 mm",
    "normal_consistency": "normal consistency",
    "jitter_mm": "jitter, mm per step²",
}
SPEED_FIGURES = {
    "steps": "steps of diffusion",
    "pictures_per_s": "pictures per second",
    "psnr_head": "PSNR head, dB",
    "ssim_head": "SSIM head",
    "flip_head": "FLIP head",
}
SPLITS = {
    "heldout_both": "new expression, new camera",
    "heldout_camera": "known expression, new camera",
    "heldout_sequence": "new expression, known camera",
}


@dataclass(frozen=True)
class Cell:
    """A figure as shown: `text`, whether it is the `best` of its split, and how far (`delta`) from the avatar's; the
    avatar's own has its interval there."""

    text: str
    best: bool
    delta: str


@dataclass(frozen=True)
class RuleTime:
    """What the jobs of one rule took together; memory is the largest job's. None where nobody measured."""

    rule: str
    jobs: int
    wall_s: float
    cpu_s: float | None
    memory_mb: float | None


def metric_cells(
    rows: dict[str, dict[str, float]], figures: dict[str, str], intervals: dict[tuple[str, str], tuple[float, float]]
) -> dict[str, dict[str, Cell]]:
    """{method: {figure: cell}} of one split's {method: {figure: value}}, the avatar first; of the named `figures`.

    `intervals` by method and figure, of those that have one.
    """
    result: dict[str, dict[str, Cell]] = {}
    for method in sorted(rows, key=lambda name: (name != "avatar", name)):
        result[method] = {}
        for figure in figures:
            if figure not in rows[method]:
                continue
            held = [row[figure] for row in rows.values() if figure in row]
            best = min(held) if figure in LESS_IS_BETTER else max(held)
            digits = 2 if figure.startswith(("psnr", "flicker", "jod", "akd", "face")) else 3
            delta = ""
            if method != "avatar" and figure in rows["avatar"]:
                delta = f"{rows[method][figure] - rows['avatar'][figure]:+.{digits}f}"
            elif (method, figure) in intervals:
                delta = " to ".join(f"{bound:.{digits}f}" for bound in intervals[method, figure])
            result[method][figure] = Cell(f"{rows[method][figure]:.{digits}f}", rows[method][figure] == best, delta)
    return result


def headline(metrics: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Figures by method of the first split that has pictures: photographs of one moment hold out cameras alone."""
    return next((rows for name in SPLITS if (rows := metrics.get(name))), {})


def gain_db(metrics: dict[str, dict[str, dict[str, float]]]) -> float | None:
    """How far the avatar is above the better baseline in head PSNR on the headline split; None without pictures."""
    rows = headline(metrics)
    others = [row["psnr_head"] for name, row in rows.items() if name != "avatar"]
    return rows["avatar"]["psnr_head"] - max(others) if others else None


def rule_times(folder: Path) -> list[RuleTime]:
    """Sums of Snakemake's benchmark files, whose path below `folder` starts with the rule's name; longest first.

    Raises DataError when a file lacks Snakemake's columns.
    """
    jobs = defaultdict(list)
    for path in sorted(folder.rglob("*.tsv")):
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t"))
        if not lines or not {"s", "max_rss", "cpu_time"} <= set(lines[0]):
            raise DataError(f"{path}: expected Snakemake's benchmark columns s, max_rss and cpu_time")
        jobs[Path(path.relative_to(folder).parts[0]).stem] += lines
    totals = [_total(rule, lines) for rule, lines in jobs.items()]
    return sorted(totals, key=lambda total: -total.wall_s)


def speed_rows(path: Path) -> list[dict[str, str]]:
    """The speed stage's table. Raises DataError when it lacks a column."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or not SPEED_FIGURES.keys() <= rows[0].keys():
        raise DataError(f"{path}: expected a table with the columns {', '.join(SPEED_FIGURES)}")
    return rows


def _total(rule: str, lines: list[dict[str, str]]) -> RuleTime:
    def numbers(column: str) -> list[float]:
        """Snakemake writes NA or - for jobs too short to be measured."""
        return [float(line[column]) for line in lines if line[column] not in ("NA", "-", "")]

    cpu, memory = numbers("cpu_time"), numbers("max_rss")
    return RuleTime(rule, len(lines), sum(numbers("s")), sum(cpu) if cpu else None, max(memory) if memory else None)


def duration(seconds: float) -> str:
    """Seconds in words: 8.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    if seconds < 3600:
        return f"{minutes} min {int(seconds % 60):02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def stage_settings(reels: list[dict[str, Reel]], avatar: Path) -> dict[str, str]:
    """{stage: its settings as JSON}: of the first chunk of each kind that records them, and of the avatar, which
    describes itself too.

    Raises DataError when `avatar` is no safetensors file with a config in its header.
    """
    try:
        with safe_open(avatar, framework="np") as file:
            config = json.loads(file.metadata()["config"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{avatar}: no avatar, its header holds no config ({error!r})") from error
    made = config.pop(KEY, None) or {}
    result = {made.get("stage", "train"): json.dumps(config | made.get("settings", {}), indent=1)}
    for reel in (next(iter(kind.values())) for kind in reels):
        if reel.attributes.get("settings"):
            result[reel.attributes["stage"]] = json.dumps(reel.attributes["settings"], indent=1)
    return dict(sorted(result.items()))


def machine() -> dict[str, str]:
    """Where the report was made."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "system": platform.platform(terse=True),
        "processors": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{memory:.0f} GiB",
        "Python": platform.python_version(),
        **{package: version(package) for package in ("torch", "diffusers", "pycolmap", "zarr")},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
