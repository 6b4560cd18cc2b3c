# Figures on what training never saw, and the page that shows every stage.


rule evaluate:
    input:
        renders=lambda wildcards: films(wildcards.subject, ".zarr.zip", rigs=["capture"]),
        targets=of_all("targets/{sequence}/{span}.zarr.zip"),
        buffers=of_all("buffers/{sequence}/capture/{span}.zarr.zip"),
        tracks=lambda wildcards: tracks(wildcards.subject, PLAN.sequences(wildcards.subject)),
        rig="<results>/{subject}/rigs/capture.json",
    output:
        metrics="<results>/{subject}/metrics.json",
        comparison="<results>/{subject}/comparison.zarr.zip",
    log:
        "<results>/{subject}/logs/evaluate.log",
    benchmark:
        "<results>/{subject}/benchmarks/evaluate.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        job=job("evaluate", held_out_cameras=HELD_OUT_CAMERAS, held_out_sequences=HELD_OUT_SEQUENCES),
    shell:
        "python -m pipeline.stages.evaluate {params.job} --renders {input.renders:q} --targets {input.targets:q}"
        " --buffers {input.buffers:q} --tracks {input.tracks:q} --rig {input.rig:q}"
        " --output {output.metrics:q} --comparison {output.comparison:q} > {log:q} 2>&1"


rule report:
    input:
        template=shipped("pipeline/report/report.html.jinja"),
        cameras="<results>/{subject}/cameras.json",
        rig="<results>/{subject}/rigs/capture.json",
        frames=of_all("frames/{sequence}/{span}.zarr.zip"),
        clouds=of_all("clouds/{sequence}/{span}.zarr.zip"),
        tracks=lambda wildcards: tracks(wildcards.subject, PLAN.sequences(wildcards.subject)),
        buffers=of_all("buffers/{sequence}/capture/{span}.zarr.zip"),
        targets=of_all("targets/{sequence}/{span}.zarr.zip"),
        renders=lambda wildcards: films(wildcards.subject, ".zarr.zip", rigs=["capture"]),
        quality=lambda wildcards: expand(
            "<results>/{subject}/quality/{sequence}.json",
            subject=wildcards.subject,
            sequence=PLAN.sequences(wildcards.subject),
        ),
        films=lambda wildcards: films(wildcards.subject, ".mp4") + driven(wildcards.subject, ".mp4"),
        driven=lambda wildcards: driven(wildcards.subject, ".zarr.zip"),
        avatar=DRAWN_AVATAR,
        speed=compared(".tsv"),
        speed_film=compared(".mp4"),
        metrics="<results>/{subject}/metrics.json",
        comparison="<results>/{subject}/comparison.zarr.zip",
    output:
        page="<results>/{subject}/report.html",
        sheet="<results>/{subject}/contact_sheet.png",
    log:
        "<results>/{subject}/logs/report.log",
    benchmark:
        "<results>/{subject}/benchmarks/report.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=4000,
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
        " --quality {input.quality:q} --metrics {input.metrics:q} --comparison {input.comparison:q}"
        " --output {output.page:q} --sheet {output.sheet:q} > {log:q} 2>&1"
