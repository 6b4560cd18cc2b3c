# From recordings to frames with alpha.


rule calibrate:
    input:
        calibration,
    output:
        "<results>/{subject}/cameras.json",
    log:
        "<results>/{subject}/logs/calibrate.log",
    benchmark:
        "<results>/{subject}/benchmarks/calibrate.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        job=job("calibrate", capture_format, capture=lambda wildcards: PLAN.folder(wildcards.subject)),
    shell:
        "python -m pipeline.stages.calibrate {params.job} --output {output:q} > {log:q} 2>&1"


rule ingest:
    input:
        cameras="<results>/{subject}/cameras.json",
        recording=recording,
    output:
        "<results>/{subject}/frames/{sequence}/{span}.zarr.zip",
    log:
        "<results>/{subject}/logs/ingest/{sequence}/{span}.log",
    benchmark:
        "<results>/{subject}/benchmarks/ingest/{sequence}/{span}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        job=of_span(
            "ingest",
            capture_format,
            capture=lambda wildcards: PLAN.folder(wildcards.subject),
            frames=lambda wildcards: PLAN.frames(wildcards.subject, wildcards.sequence),
        ),
    shell:
        "python -m pipeline.stages.ingest {params.job} --cameras {input.cameras:q} --output {output:q}"
        " > {log:q} 2>&1"
