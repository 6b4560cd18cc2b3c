"""What it costs to plan a large project: `snakemake -n` of the demo's, with long sequences. Prints one JSON line last.

    python -m benchmarks.planning [--frames 100000] [--span 64]

The table that it makes declares that many frames in all; nothing is decoded. `jobs`: jobs in the plan; `cpu_s`: CPU
seconds of Snakemake, in user mode and in the system's; `wall_s`.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.provenance import ROOT


def main() -> None:
    """Write the table, plan, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000, help="of all sequences together")
    parser.add_argument("--span", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").symlink_to(ROOT / "data")
        header, *rows = [line.split("\t") for line in (ROOT / "data/captures.tsv").read_text().splitlines() if line]
        longer = [[*row[:-1], str(given.frames // len(rows))] for row in rows]
        (folder / "captures.tsv").write_text("".join("\t".join(row) + "\n" for row in [header, *longer]))
        command = [Path(sys.executable).parent / "snakemake", "-n", "--snakefile", ROOT / "Snakefile"]
        command += ["--configfile", ROOT / "config.yaml", "--directory", folder]
        command += ["--config", "captures=captures.tsv", f"span={given.span}"]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        wall, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = re.search(r"^total +(\d+)$", said.stdout + said.stderr, re.MULTILINE)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"jobs": int(jobs[1]), "cpu_s": round(cpu, 2), "wall_s": round(wall, 2)}))


if __name__ == "__main__":
    main()
