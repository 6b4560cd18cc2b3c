# The head prior (made only when its file is asked for by name), the avatar, what is distilled of it, and its films.


rule prior:
    input:
        ict=ict_facekit,
    output:
        "<results>/head_prior.safetensors",
    log:
        "<results>/logs/prior.log",
    benchmark:
        "<results>/benchmarks/prior.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        job=job("prior", state="runs/prior"),
    shell:
        "python -m pipeline.stages.prior {params.job} --ict {input.ict:q} --output {output:q} 2>&1 | tee {log:q}"


rule train:
    input:
        buffers=of_training("buffers/{sequence}/capture/{span}.zarr.zip"),
        targets=of_training("targets/{sequence}/{span}.zarr.zip"),
        tracks=lambda wildcards: tracks(wildcards.subject, PLAN.training(wildcards.subject)),
    output:
        "<results>/{subject}/avatar.safetensors",
    log:
        "<results>/{subject}/logs/train.log",
    benchmark:
        "<results>/{subject}/benchmarks/train.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 4
    resources:
        gpu=gpus("train"),
        mem_mb=8000,
        runtime=1440,
    params:
        job=job("train", held_out_cameras=HELD_OUT_CAMERAS, state=lambda wildcards: f"runs/{wildcards.subject}"),
    shell:
        "python -m pipeline.stages.train {params.job} --buffers {input.buffers:q} --targets {input.targets:q}"
        " --tracks {input.tracks:q} --output {output:q} 2>&1 | tee {log:q}"


rule distill:
    input:
        avatar="<results>/{subject}/avatar.safetensors",
        buffers=of_training("buffers/{sequence}/capture/{span}.zarr.zip"),
        targets=of_training("targets/{sequence}/{span}.zarr.zip"),
        tracks=lambda wildcards: tracks(wildcards.subject, PLAN.training(wildcards.subject)),
    output:
        "<results>/{subject}/distilled.safetensors",
    log:
        "<results>/{subject}/logs/distill.log",
    benchmark:
        "<results>/{subject}/benchmarks/distill.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 4
    resources:
        gpu=gpus("distill"),
        mem_mb=8000,
        runtime=1440,
    params:
        job=job("distill", held_out_cameras=HELD_OUT_CAMERAS, state=lambda wildcards: f"runs/{wildcards.subject}"),
    shell:
        "python -m pipeline.stages.distill {params.job} --avatar {input.avatar:q} --buffers {input.buffers:q}"
        " --targets {input.targets:q} --tracks {input.tracks:q} --output {output:q} 2>&1 | tee {log:q}"


rule render_capture:
    input:
        avatar=DRAWN_AVATAR,
        buffers=of_sequence("buffers/{sequence}/capture/{span}.zarr.zip"),
        targets=real_pictures,
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
    output:
        pictures="<results>/{subject}/renders/{sequence}/capture.zarr.zip",
        film="<results>/{subject}/renders/{sequence}/capture.mp4",
    log:
        "<results>/{subject}/logs/render/{sequence}/capture.log",
    benchmark:
        "<results>/{subject}/benchmarks/render/{sequence}/capture.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 4
    resources:
        gpu=gpus("render"),
        mem_mb=4000,
        runtime=120,
    params:
        job=job("render", cameras=film_cameras),
    shell:
        "python -m pipeline.stages.render {params.job} --avatar {input.avatar:q} --buffers {input.buffers:q}"
        " --track {input.track:q} --targets {input.targets:q} --output {output.pictures:q} --film {output.film:q}"
        " > {log:q} 2>&1"


rule render_span:
    input:
        avatar=DRAWN_AVATAR,
        buffers="<results>/{subject}/buffers/{sequence}/{rig}/{span}.zarr.zip",
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
    output:
        "<results>/{subject}/renders/{sequence}/{rig}/{span}.zarr.zip",
    log:
        "<results>/{subject}/logs/render_span/{sequence}/{rig}/{span}.log",
    benchmark:
        "<results>/{subject}/benchmarks/render_span/{sequence}/{rig}/{span}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 4
    resources:
        gpu=gpus("render"),
        mem_mb=4000,
        runtime=120,
    params:
        job=job("render"),
    shell:
        "python -m pipeline.stages.render {params.job} --part --avatar {input.avatar:q} --buffers {input.buffers:q}"
        " --track {input.track:q} --output {output:q} > {log:q} 2>&1"


rule film:
    input:
        pictures=of_sequence("renders/{sequence}/{{rig}}/{span}.zarr.zip"),
        buffers=of_sequence("buffers/{sequence}/{{rig}}/{span}.zarr.zip"),
        targets=driver_pictures,
    output:
        "<results>/{subject}/renders/{sequence}/{rig}.{format}",
    log:
        "<results>/{subject}/logs/film/{sequence}/{rig}.{format}.log",
    wildcard_constraints:
        rig=r"(?!capture\.)[^/]+",
        format=r"mp4|mov|webm|png\.zip",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        job=job(
            "film",
            camera=lambda wildcards: view_of(wildcards).name,
            rate=SETTINGS.render.frames_per_second,
            seconds=SETTINGS.render.film_seconds,
            scale=SETTINGS.render.film_scale,
        ),
    shell:
        "python -m pipeline.stages.film {params.job} --pictures {input.pictures:q} --buffers {input.buffers:q}"
        " --targets {input.targets:q} --output {output:q} > {log:q} 2>&1"


rule speed:
    input:
        trained="<results>/{subject}/avatar.safetensors",
        drawn=DRAWN_AVATAR,
        buffers=of_sequence("buffers/{sequence}/capture/{span}.zarr.zip"),
        targets=of_sequence("targets/{sequence}/{span}.zarr.zip"),
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
    output:
        figures="<results>/{subject}/speed/{sequence}.tsv",
        film="<results>/{subject}/speed/{sequence}.mp4",
    log:
        "<results>/{subject}/logs/speed/{sequence}.log",
    benchmark:
        "<results>/{subject}/benchmarks/speed/{sequence}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 4
    resources:
        gpu=gpus("speed"),
        mem_mb=4000,
        runtime=120,
    params:
        job=job(
            "speed",
            camera=PLAN.held_out_cameras[0],
            pixels_per_degree=SETTINGS.evaluate.pixels_per_degree,
            decoder=SETTINGS.render.decoder or [],
            compile=SETTINGS.render.compile,
        ),
    shell:
        "python -m pipeline.stages.speed {params.job} --trained {input.trained:q} --drawn {input.drawn:q}"
        " --buffers {input.buffers:q} --targets {input.targets:q} --track {input.track:q}"
        " --output {output.figures:q} --film {output.film:q} > {log:q} 2>&1"
