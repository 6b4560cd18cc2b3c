# Heads, clouds and cameras in the forms of other tools; made only when a file is asked for by name.


rule export_cameras:
    input:
        cameras="<results>/{subject}/cameras.json",
    output:
        "<results>/{subject}/export/{kind}.{ending}",
    log:
        "<results>/{subject}/logs/export/{kind}.{ending}.log",
    wildcard_constraints:
        kind="colmap|transforms",
        ending="zip|json",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        job=job("export", kind=lambda wildcards: wildcards.kind),
    shell:
        "python -m pipeline.stages.export {params.job} --cameras {input.cameras:q} --output {output:q} > {log:q} 2>&1"


rule export_clouds:
    input:
        clouds=of_sequence("clouds/{sequence}/{span}.zarr.zip"),
    output:
        "<results>/{subject}/export/{sequence}.ply.zip",
    log:
        "<results>/{subject}/logs/export/{sequence}.ply.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        job=job("export", kind="ply"),
    shell:
        "python -m pipeline.stages.export {params.job} --clouds {input.clouds:q} --output {output:q} > {log:q} 2>&1"


rule export_meshes:
    input:
        prior=HEAD_PRIOR,
        identity="<results>/{subject}/identity.safetensors",
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
        own=own_tracks,
    output:
        "<results>/{subject}/export/{sequence}.obj.zip",
    log:
        "<results>/{subject}/logs/export/{sequence}.obj.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=2000,
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
        identity="<results>/{subject}/identity.safetensors",
        track="<results>/{subject}/tracks/{sequence}.zarr.zip",
        own=own_tracks,
        cameras="<results>/{subject}/cameras.json",
        frames=lambda wildcards: chunks(
            "frames/{sequence}/{span}.zarr.zip", wildcards.subject, PLAN.training(wildcards.subject)[:1]
        ),
        seen=lambda wildcards: tracks(wildcards.subject, PLAN.training(wildcards.subject)[:1]),
    output:
        "<results>/{subject}/export/{sequence}.glb",
    log:
        "<results>/{subject}/logs/export/{sequence}.glb.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        job=job("export", kind="glb", neck=SETTINGS.stage("mesh"), rate=SETTINGS.render.frames_per_second),
    shell:
        "python -m pipeline.stages.export {params.job} --prior {input.prior:q} --map {input.map:q}"
        " --identity {input.identity:q} --track {input.track:q} --own {input.own:q} --cameras {input.cameras:q}"
        " --frames {input.frames:q} --seen {input.seen:q} --output {output:q} > {log:q} 2>&1"
