# Heads, clouds and cameras in the forms of other tools; made only when a file is asked for by name.


rule export_cameras:
    input:
        cameras=CAMERAS,
    output:
        f"{SUBJECT}/export/{{file}}",
    log:
        f"{SUBJECT}/logs/export/{{file}}.log",
    wildcard_constraints:
        file=r"colmap\.zip|transforms\.json",
    conda:
        environment("export")
    resources:
        mem_mb=memory("export"),
        runtime=5,
    params:
        job=job("export", kind=lambda wildcards: wildcards.file.partition(".")[0]),
    shell:
        "python -m pipeline.stages.export {params.job} --cameras {input.cameras:q} --output {output:q} > {log:q} 2>&1"


rule export_clouds:
    input:
        clouds=of_sequence(CLOUDS),
    output:
        f"{SUBJECT}/export/{{sequence}}.ply.zip",
    log:
        f"{SUBJECT}/logs/export/{{sequence}}.ply.log",
    conda:
        environment("export")
    resources:
        mem_mb=memory("export"),
        runtime=30,
    params:
        job=job("export", kind="ply"),
    shell:
        "python -m pipeline.stages.export {params.job} --clouds {input.clouds:q} --output {output:q} > {log:q} 2>&1"


rule export_meshes:
    input:
        prior=HEAD_PRIOR,
        identity=IDENTITY,
        track=TRACK,
        own=of_training(TRACK),
    output:
        f"{SUBJECT}/export/{{sequence}}.obj.zip",
    log:
        f"{SUBJECT}/logs/export/{{sequence}}.obj.log",
    conda:
        environment("export")
    resources:
        mem_mb=memory("export"),
        runtime=120,
    params:
        job=job("export", kind="obj", neck=SETTINGS.stage("mesh")),
    shell:
        "python -m pipeline.stages.export {params.job} --prior {input.prior:q} --identity {input.identity:q}"
        " --track {input.track:q} --own {input.own:q} --output {output:q} > {log:q} 2>&1"


rule export_head:
    input:
        prior=HEAD_PRIOR,
        map=shipped("pipeline/head/weights/arkit.safetensors"),
        identity=IDENTITY,
        track=TRACK,
        own=of_training(TRACK),
        cameras=CAMERAS,
        frames=lambda wildcards: files_of(FRAMES, wildcards.subject, PLAN.training(wildcards.subject)[:1]),
        seen=lambda wildcards: files_of(TRACK, wildcards.subject, PLAN.training(wildcards.subject)[:1]),
    output:
        f"{SUBJECT}/export/{{sequence}}.glb",
    log:
        f"{SUBJECT}/logs/export/{{sequence}}.glb.log",
    conda:
        environment("export")
    resources:
        mem_mb=memory("export"),
        runtime=120,
    params:
        job=job("export", kind="glb", neck=SETTINGS.stage("mesh"), rate=SETTINGS.render.frames_per_second),
    shell:
        "python -m pipeline.stages.export {params.job} --prior {input.prior:q} --map {input.map:q}"
        " --identity {input.identity:q} --track {input.track:q} --own {input.own:q} --cameras {input.cameras:q}"
        " --frames {input.frames:q} --seen {input.seen:q} --output {output:q} > {log:q} 2>&1"
