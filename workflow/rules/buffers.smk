# What the avatar is conditioned on and what it should look like: rigs, rasterised buffers, the head alone.


rule rig_capture:
    input:
        cameras="<results>/{subject}/cameras.json",
        identity="<results>/{subject}/identity.safetensors",
    output:
        "<results>/{subject}/rigs/capture.json",
    log:
        "<results>/{subject}/logs/rig_capture.log",
    benchmark:
        "<results>/{subject}/benchmarks/rig_capture.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        job=job("rig", rig="capture"),
    shell:
        "python -m pipeline.stages.rig {params.job} --cameras {input.cameras:q} --identity {input.identity:q}"
        " --output {output:q} > {log:q} 2>&1"


rule rig_path:
    input:
        cameras="<results>/{subject}/cameras.json",
        identity="<results>/{subject}/identity.safetensors",
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
        path=path_file,
    output:
        "<results>/{subject}/rigs/{rig}/{sequence}.json",
    log:
        "<results>/{subject}/logs/rig_path/{sequence}/{rig}.log",
    benchmark:
        "<results>/{subject}/benchmarks/rig_path/{sequence}/{rig}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
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
        meshes="<results>/{subject}/meshes/{sequence}/{span}.zarr.zip",
    output:
        "<results>/{subject}/buffers/{sequence}/{rig}/{span}.zarr.zip",
    log:
        "<results>/{subject}/logs/rasterize/{sequence}/{rig}/{span}.log",
    benchmark:
        "<results>/{subject}/benchmarks/rasterize/{sequence}/{rig}/{span}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        gpu=gpus("rasterize"),
        mem_mb=4000,
        runtime=60,
    params:
        job=of_span("rasterize"),
    shell:
        "python -m pipeline.stages.rasterize {params.job} --rig {input.rig:q} --meshes {input.meshes:q}"
        " --output {output:q} > {log:q} 2>&1"


rule isolate:
    input:
        rig="<results>/{subject}/rigs/capture.json",
        cameras="<results>/{subject}/cameras.json",
        frames="<results>/{subject}/frames/{sequence}/{span}.zarr.zip",
        buffers="<results>/{subject}/buffers/{sequence}/capture/{span}.zarr.zip",
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
    output:
        "<results>/{subject}/targets/{sequence}/{span}.zarr.zip",
    log:
        "<results>/{subject}/logs/isolate/{sequence}/{span}.log",
    benchmark:
        "<results>/{subject}/benchmarks/isolate/{sequence}/{span}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        job=of_span("isolate"),
    shell:
        "python -m pipeline.stages.isolate {params.job} --rig {input.rig:q} --cameras {input.cameras:q}"
        " --frames {input.frames:q} --buffers {input.buffers:q} --track {input.track:q}"
        " --output {output:q} > {log:q} 2>&1"
