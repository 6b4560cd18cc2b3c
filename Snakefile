# From a multi-view video to a driven avatar: see docs/workflow.md for how a rerun is decided.
from snakemake.utils import min_version

min_version("9.20")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/capture.smk"
include: "workflow/rules/geometry.smk"
include: "workflow/rules/driving.smk"
include: "workflow/rules/buffers.smk"
include: "workflow/rules/avatar.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/ablations.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        expand("<results>/{subject}/report.html", subject=AVATARS),
