# Driving a head with another person's sequence, which then goes on by the name driver~sequence.


rule retarget:
    input:
        prior=HEAD_PRIOR,
        driver="<results>/{driver}/identity.safetensors",
        track="<results>/{driver}/tracks/{motion}.zarr.zip",
        identity="<results>/{subject}/identity.safetensors",
    output:
        "<results>/{subject}/tracks/{driver}~{motion}.zarr.zip",
    log:
        "<results>/{subject}/logs/retarget/{driver}~{motion}.log",
    benchmark:
        "<results>/{subject}/benchmarks/retarget/{driver}~{motion}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        job=job(
            "retarget",
            subject=lambda wildcards: wildcards.subject,
            sequence=lambda wildcards: f"{wildcards.driver}~{wildcards.motion}",
        ),
    shell:
        "python -m pipeline.stages.retarget {params.job} --prior {input.prior:q} --driver {input.driver:q}"
        " --track {input.track:q} --identity {input.identity:q} --output {output:q} > {log:q} 2>&1"
