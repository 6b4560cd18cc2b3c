# From frames to a fitted head: point clouds, landmarks, the head prior's codes and poses, meshes.


rule pointcloud:
    input:
        given_clouds,
        guiding(sequence_landmarks),
        guiding(sequence_points),
        cameras=CAMERAS,
        frames=FRAMES,
        prior=shipped("pipeline/head/weights/head_prior.safetensors"),
    output:
        CLOUDS,
    log:
        log_of("pointcloud", CLOUDS),
    benchmark:
        benchmark_of("pointcloud", CLOUDS)
    conda:
        environment("pointcloud")
    resources:
        gpu=gpus("pointcloud"),
        mem_mb=memory("pointcloud"),
        runtime=minutes("pointcloud"),
    params:
        job=of_span(
            "pointcloud",
            given=given_clouds,
            landmarks=guiding(sequence_landmarks),
            points=guiding(sequence_points),
        ),
    shell:
        "python -m pipeline.stages.pointcloud {params.job} --cameras {input.cameras:q} --frames {input.frames:q}"
        " --prior {input.prior:q} --threads {threads} --output {output:q} > {log:q} 2>&1"


rule landmarks:
    input:
        calibration,
        lambda wildcards: PLAN.landmarks(wildcards.subject, wildcards.sequence),
    output:
        LANDMARKS,
    log:
        log_of("landmarks", LANDMARKS),
    benchmark:
        benchmark_of("landmarks", LANDMARKS)
    conda:
        environment("landmarks")
    resources:
        mem_mb=memory("landmarks"),
        runtime=10,
    params:
        job=job(
            "landmarks",
            capture_format,
            capture=lambda wildcards: PLAN.folder(wildcards.subject),
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: wildcards.sequence,
            frames=lambda wildcards: PLAN.declared(wildcards.subject, wildcards.sequence),
            stride=SETTINGS.ingest.stride,
        ),
    shell:
        "python -m pipeline.stages.landmarks {params.job} --output {output:q} > {log:q} 2>&1"


rule fit_identity:
    input:
        training_landmarks,
        training_points,
        prior=HEAD_PRIOR,
        cameras=CAMERAS,
        clouds=of_training(CLOUDS),
        frames=of_training(FRAMES),
    output:
        IDENTITY,
    log:
        log_of("fit_identity", IDENTITY),
    benchmark:
        benchmark_of("fit_identity", IDENTITY)
    conda:
        environment("fit_identity")
    resources:
        gpu=gpus("fit_identity"),
        mem_mb=memory("fit_identity"),
        runtime=60,
    params:
        job=job("fit_identity", landmarks=training_landmarks, points=training_points),
    shell:
        "python -m pipeline.stages.fit_identity {params.job} --prior {input.prior:q} --cameras {input.cameras:q}"
        " --clouds {input.clouds:q} --frames {input.frames:q} --output {output:q} > {log:q} 2>&1"


rule fit_sequence:
    input:
        sequence_landmarks,
        sequence_points,
        prior=HEAD_PRIOR,
        identity=IDENTITY,
        cameras=CAMERAS,
        clouds=of_sequence(CLOUDS),
        frames=of_sequence(FRAMES),
    output:
        TRACK,
    log:
        log_of("fit_sequence", TRACK),
    benchmark:
        benchmark_of("fit_sequence", TRACK)
    wildcard_constraints:
        sequence=SEQUENCES,
    conda:
        environment("fit_sequence")
    resources:
        gpu=gpus("fit_sequence"),
        mem_mb=memory("fit_sequence"),
        runtime=120,
    params:
        job=job(
            "fit_sequence",
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: wildcards.sequence,
            landmarks=sequence_landmarks,
            points=sequence_points,
        ),
    shell:
        "python -m pipeline.stages.fit_sequence {params.job} --prior {input.prior:q} --identity {input.identity:q}"
        " --cameras {input.cameras:q} --clouds {input.clouds:q} --frames {input.frames:q} --threads {threads}"
        " --output {output:q} > {log:q} 2>&1"


rule mesh:
    input:
        prior=HEAD_PRIOR,
        identity=IDENTITY,
        track=TRACK,
    output:
        MESHES,
    log:
        log_of("mesh", MESHES),
    benchmark:
        benchmark_of("mesh", MESHES)
    conda:
        environment("mesh")
    resources:
        gpu=gpus("mesh"),
        mem_mb=memory("mesh"),
        runtime=minutes("mesh"),
    params:
        job=of_span("mesh"),
    shell:
        "python -m pipeline.stages.mesh {params.job} --prior {input.prior:q} --identity {input.identity:q}"
        " --track {input.track:q} --output {output:q} > {log:q} 2>&1"


rule fit_quality:
    input:
        cameras=CAMERAS,
        clouds=of_sequence(CLOUDS),
        meshes=of_sequence(MESHES),
        track=TRACK,
    output:
        QUALITY,
    log:
        log_of("fit_quality", QUALITY),
    benchmark:
        benchmark_of("fit_quality", QUALITY)
    conda:
        environment("fit_quality")
    resources:
        mem_mb=memory("fit_quality"),
        runtime=30,
    params:
        job=job("fit_quality"),
    shell:
        "python -m pipeline.stages.fit_quality {params.job} --cameras {input.cameras:q} --clouds {input.clouds:q}"
        " --meshes {input.meshes:q} --track {input.track:q} --output {output:q} > {log:q} 2>&1"
