"""What it costs to plan a large project: `snakemake -n` of the demo's, with long sequences. Prints one JSON line last.

    python -m benchmarks.planning [--frames 100000] [--span 64]

The table that it makes declares that many frames in all; nothing is decoded. `jobs`: jobs in the plan; `cpu_s`: CPU
seconds of Snakemake, in user mode and in the system's; `wall_s`; `floor_cpu_s`: the same of a workflow that does
nothing, with as many jobs in chains of six, one input and one output each, no settings, logs or resources.
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

CHAIN = 6  # jobs of a span: ingest, detect, pointcloud, mesh, rasterize, isolate
SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def planned(folder: Path, command: list[str | Path]) -> dict[str, float]:
    """What planning in a folder takes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = subprocess.run([SNAKEMAKE, "-n", *command], cwd=folder, capture_output=True, text=True, check=True)
    wall, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = re.search(r"^total +(\d+)$", said.stdout + said.stderr, re.MULTILINE)
    assert jobs, said.stderr
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {"jobs": int(jobs[1]), "cpu_s": round(cpu, 2), "wall_s": round(wall, 2)}


def plan(folder: Path, frames: int, span: int | None) -> dict[str, float]:
    """Plan the demo with so many frames."""
    (folder / "data").symlink_to(ROOT / "data")
    header, *rows = [line.split("\t") for line in (ROOT / "data/captures.tsv").read_text().splitlines() if line]
    longer = [[*row[:-1], str(frames // len(rows))] for row in rows]
    (folder / "captures.tsv").write_text("".join("\t".join(row) + "\n" for row in [header, *longer]))
    spans = [f"span={span}"] if span else []
    files = ["--snakefile", ROOT / "Snakefile", "--configfile", ROOT / "config.yaml", "--directory", folder]
    return planned(folder, [*files, "--config", "captures=captures.tsv", *spans])


def floor(folder: Path, jobs: int) -> float:
    """CPU seconds that Snakemake takes to plan so many jobs that have next to nothing to be looked at."""
    last = f"rule all:\n    input: [f'{CHAIN - 1}/{{i}}' for i in range({max(jobs // CHAIN, 1)})]\n"
    first = "rule link_0:\n    output: '0/{i}'\n    shell: 'touch {output}'\n"
    others = (
        f"rule link_{n}:\n    input: '{n - 1}/{{i}}'\n    output: '{n}/{{i}}'\n    shell: 'cp {{input}} {{output}}'\n"
        for n in range(1, CHAIN)
    )
    (folder / "Snakefile").write_text("".join([last, first, *others]))
    return planned(folder, ["--cores", "1"])["cpu_s"]


def main() -> None:
    """Write the table, plan, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000, help="of all sequences together")
    parser.add_argument("--span", type=int, help="time steps of a chunk; not given: as the default chooses it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as empty:
        found = plan(Path(ours), given.frames, given.span)
        print(json.dumps({**found, "floor_cpu_s": floor(Path(empty), int(found["jobs"]))}))


if __name__ == "__main__":
    main()
