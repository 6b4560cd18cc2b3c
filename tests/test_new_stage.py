"""A new stage is three files and its test, which here is this one: settings, command and rule; nothing else is told."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.provenance import ROOT
from tests import forked

TOOLS = Path(sys.executable).parent
NEW = {
    "pipeline/settings/greet.py": '''"""Settings of the greet stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class GreetSettings(StageSettings):
    """How people are greeted."""

    word: str = Field("hello", min_length=1, description="what is said")
''',
    "pipeline/stages/greet.py": '''"""greet: says hello to a subject."""

from pathlib import Path

from pipeline import cli
from pipeline.settings.greet import GreetSettings
from pipeline.store.chunk import publish


def main() -> None:
    """Write the greeting."""
    parser = cli.parser(__doc__, GreetSettings)
    parser.add_argument("--subject", required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    with publish(given.output) as partial:
        partial.write_text(f"{given.settings.word}, {given.subject}")


if __name__ == "__main__":
    cli.run(main)
''',
    "workflow/rules/greet.smk": """# Says hello.
GREETING = f"{SUBJECT}/greeting.txt"


rule greet:
    output:
        GREETING,
    log:
        log_of("greet", GREETING),
    params:
        job=job("greet", subject=lambda wildcards: wildcards.subject),
    shell:
        "python -m pipeline.stages.greet {params.job} --output {output:q} > {log:q} 2>&1"
""",
}


def test_three_files_make_a_stage_with_settings_schema_page_and_rule(tmp_path):
    """In a folder whose name Snakemake could take for a wildcard, where all else is planned too."""
    tmp_path = tmp_path / "a {curly} name"
    for name in ("pipeline", "workflow", "profiles", "envs", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "images"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    for name, text in NEW.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text)

    environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    target = ("--cores", "1", "results/901/greeting.txt", "--config", 'greet={"word": "good day"}')
    done = forked.snakemake(tmp_path, environment, *target)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "results/901/greeting.txt").read_text() == "good day, 901"
    planned = forked.snakemake(tmp_path, environment, "-n", "--quiet")
    assert planned.returncode == 0, planned.stdout
    subprocess.run([sys.executable, "-m", "pipeline.planning.reference"], cwd=tmp_path, check=True)
    schema = json.loads((tmp_path / "workflow/schemas/config.schema.json").read_text())
    assert schema["$defs"]["GreetSettings"]["properties"]["word"]["default"] == "hello"
    assert '| `word` | `"hello"` |  | text | what is said |' in (tmp_path / "docs/settings.md").read_text()
