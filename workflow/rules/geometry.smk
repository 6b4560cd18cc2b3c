# From frames to a fitted head: point clouds, landmarks, the head prior's codes and poses, meshes.


rule pointcloud:
    input:
        cameras="<results>/{subject}/cameras.json",
        frames="<results>/{subject}/frames/{sequence}/{span}.zarr.zip",
    output:
        "<results>/{subject}/clouds/{sequence}/{span}.zarr.zip",
    log:
        "<results>/{subject}/logs/pointcloud/{sequence}/{span}.log",
    benchmark:
        "<results>/{subject}/benchmarks/pointcloud/{sequence}/{span}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        gpu=gpus("pointcloud"),
        mem_mb=4000,
        runtime=60,
    params:
        job=of_span("pointcloud"),
    shell:
        "python -m pipeline.stages.pointcloud {params.job} --cameras {input.cameras:q} --frames {input.frames:q}"
        " --threads {threads} --output {output:q} > {log:q} 2>&1"


rule landmarks:
    input:
        calibration,
        lambda wildcards: PLAN.landmarks(wildcards.subject, wildcards.sequence),
    output:
        "<results>/{subject}/landmarks/{sequence}.zarr.zip",
    log:
        "<results>/{subject}/logs/landmarks/{sequence}.log",
    benchmark:
        "<results>/{subject}/benchmarks/landmarks/{sequence}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=job(
            "landmarks",
            capture_format,
            capture=lambda wildcards: PLAN.folder(wildcards.subject),
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: wildcards.sequence,
            frames=lambda wildcards: PLAN.frames(wildcards.subject, wildcards.sequence),
            stride=SETTINGS.ingest.stride,
        ),
    shell:
        "python -m pipeline.stages.landmarks {params.job} --output {output:q} > {log:q} 2>&1"


rule fit_identity:
    input:
        training_landmarks,
        prior=HEAD_PRIOR,
        cameras="<results>/{subject}/cameras.json",
        clouds=of_training("clouds/{sequence}/{span}.zarr.zip"),
        frames=of_training("frames/{sequence}/{span}.zarr.zip"),
    output:
        "<results>/{subject}/identity.safetensors",
    log:
        "<results>/{subject}/logs/fit_identity.log",
    benchmark:
        "<results>/{subject}/benchmarks/fit_identity.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        job=job("fit_identity", landmarks=training_landmarks),
    shell:
        "python -m pipeline.stages.fit_identity {params.job} --prior {input.prior:q} --cameras {input.cameras:q}"
        " --clouds {input.clouds:q} --frames {input.frames:q} --output {output:q} > {log:q} 2>&1"


rule fit_sequence:
    input:
        sequence_landmarks,
        prior=HEAD_PRIOR,
        identity="<results>/{subject}/identity.safetensors",
        cameras="<results>/{subject}/cameras.json",
        clouds=of_sequence("clouds/{sequence}/{span}.zarr.zip"),
        frames=of_sequence("frames/{sequence}/{span}.zarr.zip"),
    output:
        "<results>/{subject}/tracks/{sequence}.zarr.zip",
    log:
        "<results>/{subject}/logs/fit_sequence/{sequence}.log",
    benchmark:
        "<results>/{subject}/benchmarks/fit_sequence/{sequence}.tsv"
    wildcard_constraints:
        sequence=r"[^/~]+",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=6000,
        runtime=120,
    params:
        job=job(
            "fit_sequence",
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: wildcards.sequence,
            landmarks=sequence_landmarks,
        ),
    shell:
        "python -m pipeline.stages.fit_sequence {params.job} --prior {input.prior:q} --identity {input.identity:q}"
        " --cameras {input.cameras:q} --clouds {input.clouds:q} --frames {input.frames:q} --threads {threads}"
        " --output {output:q} > {log:q} 2>&1"


rule mesh:
    input:
        prior=HEAD_PRIOR,
        identity="<results>/{subject}/identity.safetensors",
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
    output:
        "<results>/{subject}/meshes/{sequence}/{span}.zarr.zip",
    log:
        "<results>/{subject}/logs/mesh/{sequence}/{span}.log",
    benchmark:
        "<results>/{subject}/benchmarks/mesh/{sequence}/{span}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        gpu=gpus("mesh"),
        mem_mb=4000,
        runtime=60,
    params:
        job=of_span("mesh"),
    shell:
        "python -m pipeline.stages.mesh {params.job} --prior {input.prior:q} --identity {input.identity:q}"
        " --track {input.track:q} --output {output:q} > {log:q} 2>&1"


rule fit_quality:
    input:
        cameras="<results>/{subject}/cameras.json",
        clouds=of_sequence("clouds/{sequence}/{span}.zarr.zip"),
        meshes=of_sequence("meshes/{sequence}/{span}.zarr.zip"),
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
    output:
        "<results>/{subject}/quality/{sequence}.json",
    log:
        "<results>/{subject}/logs/fit_quality/{sequence}.log",
    benchmark:
        "<results>/{subject}/benchmarks/fit_quality/{sequence}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        job=job("fit_quality"),
    shell:
        "python -m pipeline.stages.fit_quality {params.job} --cameras {input.cameras:q} --clouds {input.clouds:q}"
        " --meshes {input.meshes:q} --track {input.track:q} --output {output:q} > {log:q} 2>&1"
