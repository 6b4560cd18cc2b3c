# Where everything lies: the one place that names a path of the results. A rule of its own kind may name one beside it.
import re

RESULTS = "<results>"
PRIOR = f"{RESULTS}/head_prior.safetensors"

SUBJECT = f"{RESULTS}/{{subject}}"
CAMERAS = f"{SUBJECT}/cameras.json"
FRAMES = f"{SUBJECT}/frames/{{sequence}}/{{span}}.zarr.zip"
CLOUDS = f"{SUBJECT}/clouds/{{sequence}}/{{span}}.zarr.zip"
DETECTIONS = f"{SUBJECT}/detections/{{sequence}}/{{span}}.zarr.zip"
POINTS = f"{SUBJECT}/points/{{sequence}}.zarr.zip"
LANDMARKS = f"{SUBJECT}/landmarks/{{sequence}}.zarr.zip"
IDENTITY = f"{SUBJECT}/identity.safetensors"
TRACK = f"{SUBJECT}/tracks/{{sequence}}.zarr.zip"
DRIVEN_TRACK = f"{SUBJECT}/tracks/{{driver}}~{{motion}}.zarr.zip"
MESHES = f"{SUBJECT}/meshes/{{sequence}}/{{span}}.zarr.zip"
QUALITY = f"{SUBJECT}/quality/{{sequence}}.json"
CAPTURE_RIG = f"{SUBJECT}/rigs/capture.json"
PATH_RIG = f"{SUBJECT}/rigs/{{rig}}/{{sequence}}.json"
BUFFERS = f"{SUBJECT}/buffers/{{sequence}}/{{rig}}/{{span}}.zarr.zip"
CAPTURE_BUFFERS = BUFFERS.replace("{rig}", "capture")
TARGETS = f"{SUBJECT}/targets/{{sequence}}/{{span}}.zarr.zip"
TRAINED_AVATAR = f"{SUBJECT}/avatar.safetensors"
DISTILLED_AVATAR = f"{SUBJECT}/distilled.safetensors"
RENDERS = f"{SUBJECT}/renders/{{sequence}}/capture.zarr.zip"
CAPTURE_FILM = f"{SUBJECT}/renders/{{sequence}}/capture.mp4"
RENDERED_SPAN = f"{SUBJECT}/renders/{{sequence}}/{{rig}}/{{span}}.zarr.zip"
FILM = f"{SUBJECT}/renders/{{sequence}}/{{rig}}.{{format}}"
ORBIT_FILM = f"{SUBJECT}/renders/{{sequence}}/orbit.mp4"
SPEED = f"{SUBJECT}/speed/{{sequence}}.tsv"
SPEED_FILM = f"{SUBJECT}/speed/{{sequence}}.mp4"
METRICS = f"{SUBJECT}/metrics.json"
PICTURES = f"{SUBJECT}/pictures.tsv"
FIGURES = f"{SUBJECT}/figures.tsv"
COMPARISON = f"{SUBJECT}/comparison.zarr.zip"
REPORT = f"{SUBJECT}/report.html"
CONTACT_SHEET = f"{SUBJECT}/contact_sheet.png"
TABLES = (".md", ".tsv", ".json", ".tex")
ABLATION_TABLES = [f"{SUBJECT}/ablations{ending}" for ending in TABLES]
BASELINE_TABLES = [f"{SUBJECT}/baselines{ending}" for ending in TABLES]

VARIANT = f"{SUBJECT}/ablations/{{ablation}}"  # the same files again, made without a part of the method


COMPARED = f"{SUBJECT}/compared/{{ablation}}"  # and what it changes


def of_variant(path):
    """Where an ablation's own version of a file lies."""
    return path.replace(SUBJECT, VARIANT)


def log_of(rule, path):
    """Where a rule that makes `path` writes its messages."""
    return _beside(path, f"logs/{rule}", "log")


def benchmark_of(rule, path):
    """Where Snakemake writes the time and memory of a rule that makes `path`."""
    return _beside(path, f"benchmarks/{rule}", "tsv")


def _beside(path, name, suffix):
    """In the folder that `path` lies under, with the rest of its wildcards: <folder>/<name>/{sequence}/{span}.<suffix>"""
    folder = next(folder for folder in (VARIANT, SUBJECT, RESULTS) if path.startswith(f"{folder}/"))
    wildcards = re.findall(r"{\w+}", path[len(folder) :])
    return f"{'/'.join([folder, name, *wildcards])}.{suffix}"
