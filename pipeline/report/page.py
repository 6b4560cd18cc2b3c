"""The report: one HTML page that holds its pictures and figures, and the first films; others lie beside it."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.planning.plan import driver_of
from pipeline.report import plots, records, sheets, tiles
from pipeline.report.material import Material
from pipeline.settings.report import ReportSettings

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Film:
    """A film of the page: `uri` holds it, or says where it lies beside the page."""

    title: str
    name: str
    held_out: bool
    uri: str

    @property
    def inside(self) -> bool:
        """Whether the page holds it."""
        return self.uri.startswith("data:")


@dataclass(frozen=True)
class Speed:
    """Few steps of diffusion beside many: a row of figures each, as the speed stage wrote them, and the film."""

    name: str
    rows: list[dict[str, str]]
    uri: str

    @staticmethod
    def read(figures: Path, film: Path) -> "Speed":
        """From `speed/{sequence}.tsv` and `.mp4`."""
        return Speed(figures.stem, records.speed_rows(figures), _embedded(film.read_bytes()))


def read_films(paths: list[Path], page: Path, held_out: list[str], embedded_mb: float) -> list[Film]:
    """Films from `renders/{sequence}/{rig}.mp4` for a page at `page`, those of held-out sequences first.

    The first ones that fit into `embedded_mb` together are held by the page; the others are named by the way to them.
    """
    films, room = [], embedded_mb * 1e6
    unseen = [*held_out, *(path.parent.name for path in paths if driver_of(path.parent.name))]
    for path in sorted(paths, key=lambda path: (path.parent.name not in unseen, path.parent.name, path.stem)):
        room -= path.stat().st_size
        where = quote(Path(os.path.relpath(path, page.parent)).as_posix())
        uri = _embedded(path.read_bytes()) if room >= 0 else where
        films.append(Film(_title(path), path.parent.name, path.parent.name in unseen, uri))
    return films


def _embedded(film: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(film).decode()


def _title(path: Path) -> str:
    if path.stem == "orbit":
        return "orbit"
    driver = driver_of(path.parent.name)
    return f"driven by {driver}, who is beside" if driver else "avatar beside the real head"


def facts(material: Material, times: list[records.RuleTime]) -> list[tuple[str, str, str]]:
    """The cards at the top: (figure, what it is, more)."""
    result = []
    avatar = records.headline(material.metrics).get("avatar")
    if avatar:
        gain = records.gain_db(material.metrics)
        more = f"{gain:+.1f} dB over the better baseline" if gain is not None else ""
        result.append((f"{avatar['psnr_head']:.1f} dB", "PSNR inside the head", more))
        result.append((f"{avatar['ssim_head']:.3f}", "SSIM inside the head", f"{avatar['pictures']} unseen pictures"))
    steps = sum(reel.steps for reel in material.frames.values())
    cameras = len(material.cameras.cameras)
    result.append((f"{cameras} × {steps}", "cameras × time steps", f"{len(material.frames)} sequences"))
    if times:
        longest = f"longest: {times[0].rule}, {records.duration(times[0].wall_s)}"
        result.append((records.duration(sum(time.wall_s for time in times)), "of work, all jobs summed", longest))
    return result


def context(
    subject: str,
    material: Material,
    films: list[Film],
    speeds: list[Speed],
    times: list[records.RuleTime],
    used: dict[str, str],
    settings: ReportSettings,
) -> dict[str, Any]:
    """What the template shows; `used` is the settings of each stage as text."""
    shot = sheets.typical_shot(material)
    residuals = plots.worst([plots.Line(name, values) for name, values in material.residual_mm.items()])
    quality = [plots.Line(sheets.METHOD_NAMES[name], values) for name, values in material.headline_psnr().items()]
    return {
        "subject": subject,
        "held_out": material.held_out,
        "facts": facts(material, times),
        "where": sheets.where(shot),
        "headline": sheets.headline(material, shot),
        "error_bar": tiles.encode(tiles.magma(np.linspace(0, 1, 256)[None].repeat(12, 0))),
        "error_levels": tiles.ERROR_LEVELS,
        "films": films,
        "speeds": speeds,
        "speed_figures": records.SPEED_FIGURES,
        "frames": sheets.frame_sheet(material, shot, settings.cameras),
        "mattes": sheets.matte_sheet(material, shot, settings.cameras),
        "cloud": sheets.cloud_sheet(material, shot),
        "cloud_points": len(material.cloud(shot)[0]),
        "fit": sheets.fit_sheet(material, shot.camera, settings.moments),
        "fit_figures": records.FIT_FIGURES,
        "quality_of_fit": material.quality,
        "residuals": residuals,
        "residual_plot": plots.line_plot(residuals, "time step", "median distance to the surface, mm", from_zero=True),
        "buffers": sheets.buffer_sheet(material, shot),
        "targets": sheets.target_sheet(material, shot, settings.cameras),
        "comparison": sheets.comparison_rows(material, settings.moments),
        "quality": quality,
        "quality_plot": plots.line_plot(quality, "picture", "PSNR inside the head, dB", from_zero=False),
        "metrics": {name: _scores(material, name) for name in records.SPLITS if material.metrics[name]},
        "less_is_better": records.LESS_IS_BETTER,
        "method_names": sheets.METHOD_NAMES,
        "times": times,
        "duration": records.duration,
        "settings": used,
        "machine": records.machine(),
    }


def _scores(material: Material, split: str) -> dict[str, Any]:
    """One split's tables: our figures, and those by the paper's definitions; columns that nobody has are left out."""
    rows = material.metrics[split]
    bounds = {(method, name): pair for (where, method, name), pair in material.intervals.items() if where == split}
    known = {name for row in rows.values() for name in row}
    tables = []
    for figures in (records.FIGURES, records.PAPER_FIGURES):
        used = {name: title for name, title in figures.items() if name in known}
        tables.append((used, records.metric_cells(rows, used, bounds)))
    return {"title": records.SPLITS[split], "pictures": rows["avatar"]["pictures"], "tables": tables}


def render(values: dict[str, Any]) -> str:
    """The page's HTML; raises jinja2.UndefinedError when the template asks for a value that is not there."""
    loader = PackageLoader("pipeline", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE).render(values)
