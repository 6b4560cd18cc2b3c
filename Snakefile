# From a multi-view video to a driven avatar: see docs/workflow.md for how a rerun is decided.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")


include: "workflow/paths.smk"
include: "workflow/common.smk"


# Every file of rules, by itself; `variants.smk` comes after the rules that it varies.
for rules_file in sorted(Path(workflow.basedir, "workflow/rules").glob("*.smk")):

    include: str(rules_file)


localrules:
    all,


rule all:
    default_target: True
    input:
        expand(REPORT, subject=AVATARS),


onstart:
    # not when planning only (-n): whoever looks on may do so
    try:
        lock_folder(Path(SETTINGS.results))
    except (PipelineError, OSError) as error:
        raise WorkflowError(str(error)) from None
