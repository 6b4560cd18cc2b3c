# The head prior (made only when its file is asked for by name), the avatar, what is distilled of it, and its films.


rule prior:
    input:
        ict=ict_facekit,
    output:
        PRIOR,
    log:
        log_of("prior", PRIOR),
    benchmark:
        benchmark_of("prior", PRIOR)
    conda:
        environment("prior")
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: attempt * prior_limit_mb(SETTINGS.prior),
        runtime=240,
    params:
        job=job("prior", state="runs/prior"),
    shell:
        "python -m pipeline.stages.prior {params.job} --ict {input.ict:q} --output {output:q} 2>&1 | tee {log:q}"


rule train:
    input:
        stored_geometry("train"),
        rasterized_geometry("train"),
        rasterizing_rig("train"),
        targets=of_training(TARGETS),
        tracks=of_training(TRACK),
    output:
        TRAINED_AVATAR,
    log:
        log_of("train", TRAINED_AVATAR),
    benchmark:
        benchmark_of("train", TRAINED_AVATAR)
    conda:
        environment("train")
    threads: 4
    resources:
        gpu=gpus("train"),
        mem_mb=memory("train"),
        runtime=1440,
    params:
        job=job(
            "train",
            held_out_cameras=HELD_OUT_CAMERAS,
            state=lambda wildcards: f"runs/{wildcards.subject}",
            buffers=stored_geometry("train"),
            meshes=rasterized_geometry("train"),
            rig=rasterizing_rig("train"),
        ),
    shell:
        "python -m pipeline.stages.train {params.job} --targets {input.targets:q} --tracks {input.tracks:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


rule distill:
    input:
        stored_geometry("distill"),
        rasterized_geometry("distill"),
        rasterizing_rig("distill"),
        avatar=TRAINED_AVATAR,
        targets=of_training(TARGETS),
        tracks=of_training(TRACK),
    output:
        DISTILLED_AVATAR,
    log:
        log_of("distill", DISTILLED_AVATAR),
    benchmark:
        benchmark_of("distill", DISTILLED_AVATAR)
    conda:
        environment("distill")
    threads: 4
    resources:
        gpu=gpus("distill"),
        mem_mb=memory("distill"),
        runtime=1440,
    params:
        job=job(
            "distill",
            held_out_cameras=HELD_OUT_CAMERAS,
            state=lambda wildcards: f"runs/{wildcards.subject}",
            buffers=stored_geometry("distill"),
            meshes=rasterized_geometry("distill"),
            rig=rasterizing_rig("distill"),
        ),
    shell:
        "python -m pipeline.stages.distill {params.job} --avatar {input.avatar:q} --targets {input.targets:q}"
        " --tracks {input.tracks:q} --output {output:q} 2>&1 | tee {log:q}"


# On a CPU several pictures at once take less time than one on several cores: half of a job is reading and starting up.
RENDER_THREADS = 4 if gpus("render") else 1


rule render_capture:
    input:
        avatar=FILM_AVATAR,
        buffers=of_sequence(CAPTURE_BUFFERS),
        targets=real_pictures,
        track=TRACK,
    output:
        pictures=RENDERS,
        film=CAPTURE_FILM,
    log:
        log_of("render_capture", RENDERS),
    benchmark:
        benchmark_of("render_capture", RENDERS)
    priority: 1  # evaluate waits for them
    conda:
        environment("render")
    threads: RENDER_THREADS
    resources:
        gpu=gpus("render"),
        mem_mb=memory("render"),
        runtime=120,
    params:
        job=job("render", cameras=film_cameras),
    shell:
        "python -m pipeline.stages.render {params.job} --avatar {input.avatar:q} --buffers {input.buffers:q}"
        " --track {input.track:q} --targets {input.targets:q} --output {output.pictures:q} --film {output.film:q}"
        " > {log:q} 2>&1"


rule render_span:
    input:
        avatar=FILM_AVATAR,
        buffers=BUFFERS,
        track=TRACK,
    output:
        RENDERED_SPAN,
    log:
        log_of("render_span", RENDERED_SPAN),
    benchmark:
        benchmark_of("render_span", RENDERED_SPAN)
    conda:
        environment("render")
    threads: RENDER_THREADS
    resources:
        gpu=gpus("render"),
        mem_mb=memory("render"),
        runtime=120,
    params:
        job=job("render"),
    shell:
        "python -m pipeline.stages.render {params.job} --part --avatar {input.avatar:q} --buffers {input.buffers:q}"
        " --track {input.track:q} --output {output:q} > {log:q} 2>&1"


rule film:
    input:
        pictures=of_sequence(RENDERED_SPAN),
        buffers=of_sequence(BUFFERS),
        targets=driver_pictures,
    output:
        FILM,
    log:
        log_of("film", FILM),
    wildcard_constraints:
        rig=rf"(?!capture\.)(?:{RIGS})",
        format=r"mp4|mov|webm|png\.zip",
    conda:
        environment("film")
    resources:
        mem_mb=memory("film"),
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
        trained=TRAINED_AVATAR,
        few=FILM_AVATAR,
        buffers=of_sequence(CAPTURE_BUFFERS),
        targets=of_sequence(TARGETS),
        track=TRACK,
    output:
        figures=SPEED,
        film=SPEED_FILM,
    log:
        log_of("speed", SPEED),
    benchmark:
        benchmark_of("speed", SPEED)
    conda:
        environment("speed")
    threads: 4
    resources:
        gpu=gpus("speed"),
        mem_mb=memory("speed"),
        runtime=120,
    params:
        job=job(
            "speed",
            camera=HELD_OUT_CAMERAS,
            pixels_per_degree=SETTINGS.evaluate.pixels_per_degree,
            decoder=SETTINGS.render.decoder or [],
            compile=SETTINGS.render.compile,
            precision=SETTINGS.render.precision,
        ),
    shell:
        "python -m pipeline.stages.speed {params.job} --trained {input.trained:q} --few {input.few:q}"
        " --buffers {input.buffers:q} --targets {input.targets:q} --track {input.track:q}"
        " --output {output.figures:q} --film {output.film:q} > {log:q} 2>&1"
