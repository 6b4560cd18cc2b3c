"""Make the report page and the contact sheet from what all other stages made."""

import argparse
from pathlib import Path

from pipeline import cli
from pipeline.report.material import open_material
from pipeline.report.page import Speed, context, read_films, render
from pipeline.report.records import rule_times, stage_settings
from pipeline.report.sheets import contact_sheet, typical_shot
from pipeline.settings.report import ReportSettings
from pipeline.store.chunk import publish
from pipeline.store.made_by import as_text

LISTS = ("frames", "clouds", "tracks", "buffers", "targets", "renders", "quality", "films")
FILES = ("cameras", "rig", "metrics", "figures", "comparison")


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, ReportSettings)
    result.add_argument("--subject", required=True)
    for name in LISTS:
        result.add_argument(f"--{name}", type=cli.existing_file, nargs="+", required=True, help="of all sequences")
    for name in FILES:
        result.add_argument(f"--{name}", type=cli.existing_file, required=True)
    result.add_argument("--driven", type=cli.existing_file, nargs="*", default=[], help="renders of driven heads")
    for name in ("speed", "speed-film"):
        result.add_argument(f"--{name}", type=cli.existing_file, nargs="*", default=[], help="of the speed stage")
    result.add_argument("--avatar", type=cli.existing_file, required=True, help="avatar.safetensors, for its settings")
    result.add_argument("--benchmarks", type=Path, required=True, help="folder of Snakemake's benchmark files")
    result.add_argument("--output", type=Path, required=True, help="report.html")
    result.add_argument("--sheet", type=Path, required=True, help="contact_sheet.png")
    return result.parse_args()


def main() -> None:
    """Choose, render, publish."""
    given = arguments()
    files = {name: getattr(given, name) for name in (*LISTS, *FILES) if name != "films"}
    with open_material(**files) as material:
        films = read_films(given.films, given.output, material.held_out["sequences"], given.settings.embedded_mb)
        used = stage_settings(
            [material.frames, material.clouds, material.buffers, material.targets, material.renders], given.avatar
        )
        speeds = [Speed.read(*pair) for pair in zip(given.speed, given.speed_film, strict=True)]
        times = rule_times(given.benchmarks)
        page = render(context(given.subject, material, films, speeds, times, used, given.settings))
        sheet = contact_sheet(material, typical_shot(material), next(iter(given.driven), None))
    with publish(given.sheet) as partial:
        sheet.save(partial)
    with publish(given.output) as partial:
        partial.write_text(f"<!-- {as_text(cli.record('report', given))} -->\n{page}", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
