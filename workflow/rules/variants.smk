# What each part of the method is worth: `snakemake ablations`. Variants are the rules of the whole with other settings.


localrules:
    ablations,


rule ablations:
    input:
        expand("<results>/{subject}/ablations.md", subject=AVATARS),


use rule train as ablation_train with:
    output:
        "<results>/{subject}/ablations/{ablation}/avatar.safetensors",
    log:
        "<results>/{subject}/ablations/{ablation}/logs/train.log",
    benchmark:
        "<results>/{subject}/ablations/{ablation}/benchmarks/train.tsv"


use rule render_capture as ablation_render with:
    input:
        avatar="<results>/{subject}/ablations/{ablation}/avatar.safetensors",
        buffers=of_sequence("buffers/{sequence}/capture/{span}.zarr.zip"),
        targets=of_sequence("targets/{sequence}/{span}.zarr.zip"),
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
    output:
        pictures="<results>/{subject}/ablations/{ablation}/renders/{sequence}/capture.zarr.zip",
        film="<results>/{subject}/ablations/{ablation}/renders/{sequence}/capture.mp4",
    log:
        "<results>/{subject}/ablations/{ablation}/logs/render/{sequence}.log",
    benchmark:
        "<results>/{subject}/ablations/{ablation}/benchmarks/render/{sequence}.tsv"


use rule evaluate as ablation_evaluate with:
    input:
        renders=lambda wildcards: films(
            wildcards.subject, ".zarr.zip", rigs=["capture"], folder=f"ablations/{wildcards.ablation}/renders"
        ),
        targets=of_all("targets/{sequence}/{span}.zarr.zip"),
        buffers=of_all("buffers/{sequence}/capture/{span}.zarr.zip"),
        tracks=lambda wildcards: tracks(wildcards.subject, PLAN.sequences(wildcards.subject)),
        rig="<results>/{subject}/rigs/capture.json",
    output:
        metrics="<results>/{subject}/ablations/{ablation}/metrics.json",
        comparison="<results>/{subject}/ablations/{ablation}/comparison.zarr.zip",
    log:
        "<results>/{subject}/ablations/{ablation}/logs/evaluate.log",
    benchmark:
        "<results>/{subject}/ablations/{ablation}/benchmarks/evaluate.tsv"


rule ablation_table:
    input:
        whole="<results>/{subject}/metrics.json",
        ablated=expand("<results>/{{subject}}/ablations/{ablation}/metrics.json", ablation=SETTINGS.ablations.variants),
    output:
        table="<results>/{subject}/ablations.tsv",
        page="<results>/{subject}/ablations.md",
    log:
        "<results>/{subject}/logs/ablations.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=job("ablations"),
    shell:
        "python -m pipeline.stages.ablations {params.job} --whole {input.whole:q} --ablated {input.ablated:q}"
        " --table {output.table:q} --page {output.page:q} > {log:q} 2>&1"
