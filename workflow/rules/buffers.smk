# What the avatar is conditioned on and what it should look like: rigs, rasterised buffers, the head alone.


rule rig_capture:
    input:
        cameras=CAMERAS,
        identity=IDENTITY,
    output:
        CAPTURE_RIG,
    log:
        log_of("rig_capture", CAPTURE_RIG),
    benchmark:
        benchmark_of("rig_capture", CAPTURE_RIG)
    conda:
        environment("rig")
    resources:
        mem_mb=memory("rig"),
        runtime=5,
    params:
        job=job("rig", rig="capture"),
    shell:
        "python -m pipeline.stages.rig {params.job} --cameras {input.cameras:q} --identity {input.identity:q}"
        " --output {output:q} > {log:q} 2>&1"


rule rig_path:
    input:
        cameras=CAMERAS,
        identity=IDENTITY,
        track=TRACK,
        path=path_file,
    output:
        PATH_RIG,
    log:
        log_of("rig_path", PATH_RIG),
    benchmark:
        benchmark_of("rig_path", PATH_RIG)
    conda:
        environment("rig")
    resources:
        mem_mb=memory("rig"),
        runtime=5,
    params:
        job=job(
            "rig",
            rig=lambda wildcards: view_of(wildcards).kind,
            camera=lambda wildcards: [view_of(wildcards).name] if view_of(wildcards).kind == "camera" else [],
            path=path_file,
            stabilised=lambda wildcards: view_of(wildcards).stabilised,
            rate=SETTINGS.render.frames_per_second,
        ),
    shell:
        "python -m pipeline.stages.rig {params.job} --cameras {input.cameras:q} --identity {input.identity:q}"
        " --track {input.track:q} --output {output:q} > {log:q} 2>&1"


rule rasterize:
    input:
        rig=rig_file,
        meshes=MESHES,
    output:
        BUFFERS if SETTINGS.train.buffers == "stored" else temp(BUFFERS),
    log:
        log_of("rasterize", BUFFERS),
    benchmark:
        benchmark_of("rasterize", BUFFERS)
    conda:
        environment("rasterize")
    resources:
        gpu=gpus("rasterize"),
        mem_mb=memory("rasterize"),
        runtime=minutes("rasterize"),
    params:
        job=of_span("rasterize"),
    shell:
        "python -m pipeline.stages.rasterize {params.job} --rig {input.rig:q} --meshes {input.meshes:q}"
        " --output {output:q} > {log:q} 2>&1"


rule isolate:
    input:
        rig=CAPTURE_RIG,
        cameras=CAMERAS,
        frames=FRAMES,
        buffers=CAPTURE_BUFFERS,
        track=TRACK,
    output:
        TARGETS,
    log:
        log_of("isolate", TARGETS),
    benchmark:
        benchmark_of("isolate", TARGETS)
    conda:
        environment("isolate")
    resources:
        mem_mb=memory("isolate"),
        runtime=minutes("isolate"),
    params:
        job=of_span("isolate"),
    shell:
        "python -m pipeline.stages.isolate {params.job} --rig {input.rig:q} --cameras {input.cameras:q}"
        " --frames {input.frames:q} --buffers {input.buffers:q} --track {input.track:q}"
        " --output {output:q} > {log:q} 2>&1"
