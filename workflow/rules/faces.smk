# From frames to points of the face in space; only where the small networks are there and wanted.


rule detect:
    input:
        cameras=CAMERAS,
        frames=FRAMES,
    output:
        DETECTIONS,
    log:
        log_of("detect", DETECTIONS),
    benchmark:
        benchmark_of("detect", DETECTIONS)
    conda:
        environment("detect")
    resources:
        mem_mb=memory("detect"),
        runtime=minutes("detect"),
    params:
        job=of_span("detect"),
    shell:
        "python -m pipeline.stages.detect {params.job} --cameras {input.cameras:q} --frames {input.frames:q}"
        " --output {output:q} > {log:q} 2>&1"


rule triangulate:
    input:
        cameras=CAMERAS,
        detections=of_sequence(DETECTIONS),
        frames=of_sequence(FRAMES),
    output:
        POINTS,
    log:
        log_of("triangulate", POINTS),
    benchmark:
        benchmark_of("triangulate", POINTS)
    conda:
        environment("triangulate")
    resources:
        mem_mb=memory("triangulate"),
        runtime=30,
    params:
        job=job(
            "triangulate",
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: wildcards.sequence,
        ),
    shell:
        "python -m pipeline.stages.triangulate {params.job} --cameras {input.cameras:q}"
        " --detections {input.detections:q} --frames {input.frames:q} --output {output:q} > {log:q} 2>&1"
