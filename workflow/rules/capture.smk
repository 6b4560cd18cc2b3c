# From recordings to frames with alpha.


rule calibrate:
    input:
        calibration,
        seen_first,
    output:
        CAMERAS,
    log:
        log_of("calibrate", CAMERAS),
    benchmark:
        benchmark_of("calibrate", CAMERAS)
    conda:
        environment("calibrate")
    resources:
        mem_mb=memory("calibrate"),
        runtime=15,
    params:
        job=job(
            "calibrate",
            capture_format,
            capture=lambda wildcards: PLAN.folder(wildcards.subject),
            sequence=lambda wildcards: PLAN.first_recording(wildcards.subject),
            prior=lambda wildcards: [HEAD_PRIOR] if PLAN.seeks_unit(wildcards.subject, SETTINGS.calibrate) else [],
            without=lambda wildcards: list(PLAN.left_out(wildcards.subject)),
        ),
    shell:
        # from the environment, not from the params: another split makes no other cameras, it is only looked at
        'python -m pipeline.stages.calibrate {params.job} --held-out-cameras "$HELD_OUT_CAMERAS"'
        " --output {output:q} > {log:q} 2>&1"


rule ingest:
    input:
        cameras=CAMERAS,
        recording=recording,
    output:
        FRAMES,
    log:
        log_of("ingest", FRAMES),
    benchmark:
        benchmark_of("ingest", FRAMES)
    conda:
        environment("ingest")
    resources:
        mem_mb=memory("ingest"),
        runtime=minutes("ingest"),
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
