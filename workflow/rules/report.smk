# Figures on what training never saw, and the page that shows every stage.

# Networks of the user's own that pictures are judged by.
JUDGES = [path for path in (SETTINGS.evaluate.lpips, SETTINGS.evaluate.face_embedding) if path]


rule evaluate:
    input:
        renders=of_all(RENDERS),
        targets=of_all(TARGETS),
        buffers=of_all(CAPTURE_BUFFERS),
        tracks=of_all(TRACK),
        rig=CAPTURE_RIG,
        networks=JUDGES,
    output:
        metrics=METRICS,
        pictures=PICTURES,
        figures=FIGURES,
        comparison=COMPARISON,
    log:
        log_of("evaluate", METRICS),
    benchmark:
        benchmark_of("evaluate", METRICS)
    priority: 2  # on one core for long: films that nothing waits for are rendered beside it
    conda:
        environment("evaluate")
    resources:
        mem_mb=memory("evaluate"),
        runtime=60,
    params:
        job=job(
            "evaluate",
            held_out_cameras=HELD_OUT_CAMERAS,
            held_out_sequences=lambda wildcards: ",".join(PLAN.unseen(wildcards.subject)),
            faces=[SETTINGS.detect.models or "shipped"] if DETECT else [],
        ),
    shell:
        "python -m pipeline.stages.evaluate {params.job} --renders {input.renders:q} --targets {input.targets:q}"
        " --buffers {input.buffers:q} --tracks {input.tracks:q} --rig {input.rig:q}"
        " --output {output.metrics:q} --pictures {output.pictures:q} --figures {output.figures:q}"
        " --comparison {output.comparison:q} > {log:q} 2>&1"


rule report:
    input:
        template=shipped("pipeline/report/report.html.jinja"),
        cameras=CAMERAS,
        rig=CAPTURE_RIG,
        frames=of_all(FRAMES),
        clouds=of_all(CLOUDS),
        tracks=of_all(TRACK),
        buffers=of_all(CAPTURE_BUFFERS),
        targets=of_all(TARGETS),
        renders=of_all(RENDERS),
        quality=of_all(QUALITY),
        films=films,
        driven=driven(RENDERS),
        avatar=FILM_AVATAR,
        speed=compared(SPEED),
        speed_film=compared(SPEED_FILM),
        metrics=METRICS,
        figures=FIGURES,
        comparison=COMPARISON,
    output:
        page=REPORT,
        sheet=CONTACT_SHEET,
    log:
        log_of("report", REPORT),
    benchmark:
        benchmark_of("report", REPORT)
    conda:
        environment("report")
    resources:
        mem_mb=memory("report"),
        runtime=30,
    params:
        job=job(
            "report",
            subject=lambda wildcards: wildcards.subject,
            benchmarks=lambda wildcards: f"{SETTINGS.results}/{wildcards.subject}/benchmarks",
        ),
    shell:
        "python -m pipeline.stages.report {params.job} --cameras {input.cameras:q} --rig {input.rig:q}"
        " --frames {input.frames:q} --clouds {input.clouds:q} --tracks {input.tracks:q} --buffers {input.buffers:q}"
        " --targets {input.targets:q} --renders {input.renders:q} --films {input.films:q}"
        " --driven {input.driven:q} --avatar {input.avatar:q}"
        " --speed {input.speed:q} --speed-film {input.speed_film:q}"
        " --quality {input.quality:q} --metrics {input.metrics:q} --figures {input.figures:q}"
        " --comparison {input.comparison:q}"
        " --output {output.page:q} --sheet {output.sheet:q} > {log:q} 2>&1"
