"""Put the figures of the avatar beside those of its ablations, or of the baselines, and beside the paper's."""

import argparse
import json
from pathlib import Path

from pipeline import cli
from pipeline.errors import DataError
from pipeline.evaluate.paper_tables import WHOLE, WRITERS, Row, ablation_rows, baseline_rows
from pipeline.settings.ablations import AblationsSettings
from pipeline.store.chunk import publish


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, AblationsSettings)
    result.add_argument("--whole", type=cli.existing_file, required=True, help="metrics.json of the avatar")
    others = result.add_mutually_exclusive_group(required=True)
    others.add_argument("--ablated", type=cli.existing_file, nargs="+", help="metrics.json of each of the variants")
    others.add_argument("--deferred", type=cli.existing_file, help="metrics.json of deferred neural rendering")
    result.add_argument("--output", type=Path, nargs="+", required=True, help=f"tables: {', '.join(WRITERS)}")
    return result.parse_args()


def read_rows(given: argparse.Namespace) -> list[Row]:
    """The table's rows. Raises DataError when there is not one file for each variant of the settings."""
    whole = json.loads(given.whole.read_text())
    if given.deferred:
        return baseline_rows(whole, json.loads(given.deferred.read_text()))
    names = given.settings.variants
    if len(names) != len(given.ablated):
        raise DataError(f"{len(given.ablated)} files of metrics; expected one for each of {', '.join(names)}")
    ablated = {name: json.loads(path.read_text()) for name, path in zip(names, given.ablated, strict=True)}
    return ablation_rows({WHOLE: whole, **ablated})


def main() -> None:
    """Read, write the table in every form that is asked for."""
    given = arguments()
    rows = read_rows(given)
    for path in given.output:
        if path.suffix not in WRITERS:
            raise DataError(f"{path}: no table is written as {path.suffix}; expected {', '.join(WRITERS)}")
        with publish(path) as partial:
            partial.write_text(WRITERS[path.suffix](rows))


if __name__ == "__main__":
    cli.run(main)
