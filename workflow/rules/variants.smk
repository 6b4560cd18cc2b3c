# What each part of the method is worth: `snakemake ablations`; and what it gains on a simpler one: `snakemake baselines`.
# Variants are the rules of the whole with other settings.


localrules:
    ablations,
    baselines,


rule ablations:
    input:
        expand(ABLATION_TABLES, subject=AVATARS),


rule baselines:
    input:
        expand(BASELINE_TABLES, subject=AVATARS),


use rule train as ablation_train with:
    output:
        of_variant(TRAINED_AVATAR),
    log:
        log_of("ablation_train", of_variant(TRAINED_AVATAR)),
    benchmark:
        benchmark_of("ablation_train", of_variant(TRAINED_AVATAR))


use rule render_capture as ablation_render with:
    input:
        avatar=of_variant(TRAINED_AVATAR),
        buffers=of_sequence(CAPTURE_BUFFERS),
        targets=of_sequence(TARGETS),
        track=TRACK,
    output:
        pictures=of_variant(RENDERS),
        film=of_variant(CAPTURE_FILM),
    log:
        log_of("ablation_render", of_variant(RENDERS)),
    benchmark:
        benchmark_of("ablation_render", of_variant(RENDERS))


use rule evaluate as ablation_evaluate with:
    input:
        renders=of_all(of_variant(RENDERS)),
        targets=of_all(TARGETS),
        buffers=of_all(CAPTURE_BUFFERS),
        tracks=of_all(TRACK),
        rig=CAPTURE_RIG,
        networks=JUDGES,
    output:
        metrics=of_variant(METRICS),
        pictures=of_variant(PICTURES),
        figures=of_variant(FIGURES),
        comparison=of_variant(COMPARISON),
    log:
        log_of("ablation_evaluate", of_variant(METRICS)),
    benchmark:
        benchmark_of("ablation_evaluate", of_variant(METRICS))


rule ablation_table:
    input:
        whole=METRICS,
        ablated=expand(of_variant(METRICS), ablation=SETTINGS.ablations.variants, allow_missing=True),
    output:
        ABLATION_TABLES,
    log:
        log_of("ablation_table", ABLATION_TABLES[0]),
    conda:
        environment("ablations")
    resources:
        mem_mb=memory("ablations"),
        runtime=10,
    params:
        job=job("ablations"),
    shell:
        "python -m pipeline.stages.ablations {params.job} --whole {input.whole:q} --ablated {input.ablated:q}"
        " --output {output:q} > {log:q} 2>&1"


rule baseline_table:
    input:
        whole=METRICS,
        deferred=expand(of_variant(METRICS), ablation="deferred", allow_missing=True),
    output:
        BASELINE_TABLES,
    log:
        log_of("baseline_table", BASELINE_TABLES[0]),
    conda:
        environment("ablations")
    resources:
        mem_mb=memory("ablations"),
        runtime=10,
    params:
        job=job("ablations"),
    shell:
        "python -m pipeline.stages.ablations {params.job} --whole {input.whole:q} --deferred {input.deferred:q}"
        " --output {output:q} > {log:q} 2>&1"


rule compare:
    input:
        pictures=[PICTURES, of_variant(PICTURES)],
        avatars=[TRAINED_AVATAR, of_variant(TRAINED_AVATAR)],
        renders=lambda wildcards: [
            path.replace("{ablation}", wildcards.ablation)
            for pattern in (RENDERS, of_variant(RENDERS))
            for path in of_all(pattern)(wildcards)
        ],
    output:
        multiext(f"{COMPARED}/", "index.html", "changes.md", "scores.tsv", "scores.json", "scores.md", "scores.tex"),
    log:
        log_of("compare", COMPARED),
    conda:
        environment("evaluate")
    resources:
        mem_mb=memory("compare"),
        runtime=10,
    params:
        whole=lambda wildcards: f"{SETTINGS.results}/{wildcards.subject}",
        output=lambda wildcards, output: os.path.dirname(output[0]),
        code=code_of("pipeline.evaluate.compare"),
    shell:
        "python -m pipeline.evaluate.compare {params.whole:q} {params.whole:q}/ablations/{wildcards.ablation}"
        " --output {params.output:q}"
        " > {log:q} 2>&1"
