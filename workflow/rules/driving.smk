# What drives a head: another person's sequence, by the name driver~sequence, or a motion of one's own, by its name.
import re


ruleorder: animate > fit_sequence


rule retarget:
    input:
        prior=HEAD_PRIOR,
        driver=IDENTITY.replace("{subject}", "{driver}"),
        track=TRACK.replace("{subject}", "{driver}").replace("{sequence}", "{motion}"),
        identity=IDENTITY,
        own=of_training(TRACK),
    output:
        DRIVEN_TRACK,
    log:
        log_of("retarget", DRIVEN_TRACK),
    benchmark:
        benchmark_of("retarget", DRIVEN_TRACK)
    conda:
        environment("retarget")
    resources:
        mem_mb=memory("retarget"),
        runtime=5,
    params:
        job=job(
            "retarget",
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: f"{wildcards.driver}~{wildcards.motion}",
        ),
    shell:
        "python -m pipeline.stages.retarget {params.job} --prior {input.prior:q} --driver {input.driver:q}"
        " --track {input.track:q} --identity {input.identity:q} --own {input.own:q} --output {output:q} > {log:q} 2>&1"


rule animate:
    input:
        motion=lambda wildcards: SETTINGS.films.motions[wildcards.sequence],
        prior=HEAD_PRIOR,
        map=shipped("pipeline/head/weights/arkit.safetensors"),
        identity=IDENTITY,
        own=of_training(TRACK),
    output:
        TRACK,
    log:
        log_of("animate", TRACK),
    benchmark:
        benchmark_of("animate", TRACK)
    wildcard_constraints:
        sequence="|".join(map(re.escape, SETTINGS.films.motions)) or "(?!)",
    conda:
        environment("animate")
    resources:
        mem_mb=memory("animate"),
        runtime=5,
    params:
        job=job(
            "animate",
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: wildcards.sequence,
            rate=SETTINGS.render.frames_per_second,
            steps=lambda wildcards: PLAN.motions[wildcards.sequence],
        ),
    shell:
        "python -m pipeline.stages.animate {params.job} --motion {input.motion:q} --prior {input.prior:q}"
        " --map {input.map:q} --identity {input.identity:q} --tracks {input.own:q} --output {output:q} > {log:q} 2>&1"
