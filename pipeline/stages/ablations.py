"""Put the figures of the avatar and of its ablations into one table, beside the paper's."""

import argparse
import json
from pathlib import Path

from pipeline import cli
from pipeline.errors import DataError
from pipeline.evaluate.ablations import WHOLE, as_markdown, as_tsv, table
from pipeline.settings.ablations import AblationsSettings
from pipeline.store.chunk import publish


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, AblationsSettings)
    result.add_argument("--whole", type=cli.existing_file, required=True, help="metrics.json of the avatar")
    result.add_argument(
        "--ablated", type=cli.existing_file, nargs="+", required=True, help="metrics.json of each of the variants"
    )
    result.add_argument("--table", type=Path, required=True, help="ablations.tsv")
    result.add_argument("--page", type=Path, required=True, help="ablations.md")
    return result.parse_args()


def main() -> None:
    """Read, write both."""
    given = arguments()
    names = (WHOLE, *given.settings.variants)
    paths = (given.whole, *given.ablated)
    if len(names) != len(paths):
        raise DataError(f"{len(given.ablated)} files of metrics; expected one for each of {', '.join(names[1:])}")
    rows = table({name: json.loads(path.read_text()) for name, path in zip(names, paths, strict=True)})
    with publish(given.table) as partial:
        partial.write_text(as_tsv(rows))
    with publish(given.page) as partial:
        partial.write_text(as_markdown(rows))


if __name__ == "__main__":
    cli.run(main)
