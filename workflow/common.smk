# Loads the settings once and turns them into paths and arguments; the only functions of the workflow.
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

sys.path.insert(0, workflow.basedir)
from pipeline.planning import config as configuration
from pipeline.planning import made
from pipeline.planning.films import HEAD, PATHS, view
from pipeline import provenance
from pipeline.cli import ASIDE
from pipeline.detect import models
from pipeline.errors import ConfigError, PipelineError
from pipeline.planning.memory import Scene, limit_mb, prior_limit_mb
from pipeline.planning.minutes import limit_minutes
from pipeline.planning.text import check_yaml
from pipeline.store.lock import lock_folder

if not {"captures", "split"} <= config.keys():  # a file on the command line that has both is whole
    try:
        check_yaml(Path("config.yaml"))
    except ConfigError as error:
        raise WorkflowError(str(error)) from None

    configfile: "config.yaml"


try:
    SETTINGS = configuration.load(config)
    PLAN = SETTINGS.plan()
    PLAN.check_captures()
    SETTINGS.check_paths()
    SETTINGS.check_variants()
    for line in PLAN.notes():
        logger.warning(line)
except ConfigError as error:
    raise WorkflowError(str(error)) from None


def literal(text):
    """A text that Snakemake is to take as it is: braces doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def shipped(path):
    """A file of the project, relative to the working directory."""
    return configuration.require_plain("the project's path", os.path.relpath(Path(workflow.basedir, path)))


DETECT = SETTINGS.detect.on and models.present(SETTINGS.detect.models)
if SETTINGS.detect.on and not DETECT and workflow.is_main_process:
    found = models.folder(SETTINGS.detect.models)
    logger.warning(f"no face networks in {found}, so faces are not looked for; {models.BRING}")
HEAD_PRIOR = SETTINGS.head_prior or shipped("pipeline/head/weights/head_prior.safetensors")
AVATARS = SETTINGS.avatars or PLAN.subjects()
FILM_AVATAR = DISTILLED_AVATAR if SETTINGS.distill.into else TRAINED_AVATAR
HELD_OUT_CAMERAS = ",".join(PLAN.held_out_cameras)
# What a rule's shell or a stage reads there makes no job run again.
os.environ.update({"HELD_OUT_CAMERAS": HELD_OUT_CAMERAS, ASIDE: SETTINGS.aside()})

# Snakemake puts this before every command in place of its own options. Without pipefail a stage that fails, or is
# stopped, before a pipe into tee would count as done.
shell.prefix(f"set -euo pipefail; export PYTHONPATH={literal(shlex.quote(workflow.basedir))}; ")


pathvars:
    results=SETTINGS.results,


# Names that there are: Snakemake says in one line that nothing makes a file of another.
SUBJECTS = "|".join(map(re.escape, PLAN.subjects()))
SEQUENCES = "|".join(map(re.escape, PLAN.names()))
RIGS = "|".join(map(re.escape, dict.fromkeys([*PATHS, *SETTINGS.films.paths, *PLAN.all_cameras()])))
RIGS = rf"(?:{RIGS})(?:{HEAD})?"


wildcard_constraints:
    subject=SUBJECTS,
    sequence=rf"(?:(?:{SUBJECTS})~)?(?:{SEQUENCES})",
    driver=SUBJECTS,
    motion=SEQUENCES,
    rig=RIGS,
    ablation="|".join(re.escape(name) for name in SETTINGS.all_variants),
    span=r"\d{6}-\d{6}",


def settings_today(stage, ablation):
    """A stage's settings as JSON; None for a stage or a variant that there is no more."""
    if ablation and ablation not in SETTINGS.all_variants:
        return None
    settings = SETTINGS.ablated(ablation) if ablation else SETTINGS
    return settings.stage(stage) if hasattr(settings, stage) else None


if workflow.is_main_process:
    for outdated in made.of_other_settings(SETTINGS.results, Path(".snakemake/metadata"), settings_today):
        logger.warning(f"{outdated}: made with other settings, which .snakemake knows nothing of: made anew")
        os.utime(outdated, (1, 1))  # older than what it is made from


def job(stage, reads=None, **options):
    """Arguments of a stage: its settings, the digest of its code, and options that may be functions of wildcards.

    `reads` is a function of wildcards that names a module which the stage finds by itself: a capture's format.
    An option of several values is a list, and is left out where that is empty. A rule with the wildcard {ablation}
    gets that variant's settings. One string, because Snakemake compares params as an unordered set of values without
    their names.
    """

    def arguments(wildcards):
        modules = [f"pipeline.stages.{stage}", *([reads(wildcards)] if reads else [])]
        fixed = ["--settings", settings_of(stage, wildcards.get("ablation")), "--code", code_of(*modules)]
        values = {name: value(wildcards) if callable(value) else value for name, value in options.items()}
        for name, value in values.items():
            # Snakemake replaces path variables in inputs and outputs, but not in params
            several = [str(one).replace(RESULTS, SETTINGS.results) for one in _listed(value)]
            fixed += [f"--{name.replace('_', '-')}", *several] if several else []
        return shlex.join(fixed)

    return arguments


@cache
def settings_of(stage, ablation=None):
    """A stage's settings as JSON, of an ablation where one is named. Thousands of jobs ask, a few answers differ.

    Those of an ablation are whole: what affects no result is in the environment too, but of the avatar's own settings.
    """
    return SETTINGS.ablated(ablation).stage(stage, whole=True) if ablation else SETTINGS.stage(stage)


@cache
def code_of(*modules):
    """The digest of the code of some modules."""
    return provenance.digest(*modules)


def _listed(value):
    return value if isinstance(value, list) else [value]


def gpus(stage):
    """GPUs that a stage's settings ask for: Snakemake and Slurm share them out, `pipeline.device` picks one."""
    return getattr(SETTINGS, stage).gpus


@cache
def scene(subject):
    """What the memory of a subject's jobs depends on."""
    rendered = SETTINGS.rig.width * SETTINGS.rig.height
    return Scene(
        len(PLAN.cameras(subject)),
        PLAN.largest_picture(subject),
        rendered,
        SETTINGS.train.architecture.backbone == "pretrained",
        SETTINGS.mesh.voxel_mm,
        max(PLAN.steps(subject, sequence) for sequence in PLAN.sequences(subject)),
        2 * SETTINGS.render.film_scale**2,  # the real picture beside it
        PLAN.longest(),
    )


def memory(stage):
    """A stage's memory limit, once more for every time that a job is started again."""
    return lambda wildcards, threads, attempt: attempt * limit_mb(stage, scene(wildcards.subject), threads)


def minutes(stage):
    """A time limit of a stage that makes one chunk."""

    def limit(wildcards):
        start, stop = map(int, wildcards.span.split("-"))
        return limit_minutes(stage, scene(wildcards.subject), stop - start)

    return limit


def of_span(stage, reads=None, **options):
    """`job` for a stage that makes one chunk: subject, sequence, start and stop come from the wildcards."""
    return job(
        stage,
        reads,
        subject=lambda wildcards: wildcards.subject,
        sequence=lambda wildcards: wildcards.sequence,
        start=lambda wildcards: int(wildcards.span.split("-")[0]),
        stop=lambda wildcards: int(wildcards.span.split("-")[1]),
        **options,
    )


def environment(stage):
    """The conda environment of a stage, for --sdm conda."""
    return literal(str(Path(workflow.basedir, f"envs/{'gpu' if gpus(stage) else 'cpu'}.yaml")))


def files_of(pattern, subject, sequences):
    """A subject's files for some sequences: one for each, or one for each of their spans if `pattern` has {span}.

    Other wildcards of the pattern are left to Snakemake.
    """
    return [
        pattern.replace("{subject}", subject).replace("{sequence}", sequence).replace("{span}", span)
        for sequence in sequences
        for span in (PLAN.spans(subject, sequence) if "{span}" in pattern else [""])
    ]


def of_sequence(pattern):
    """Input function: what there is of the wildcards' sequence."""
    return lambda wildcards: files_of(pattern, wildcards.subject, [wildcards.sequence])


def of_training(pattern):
    """Input function: what there is of the subject's training sequences."""
    return lambda wildcards: files_of(pattern, wildcards.subject, PLAN.training(wildcards.subject))


def of_all(pattern):
    """Input function: what there is of all sequences of the subject."""
    return lambda wildcards: files_of(pattern, wildcards.subject, PLAN.sequences(wildcards.subject))


def ict_facekit(wildcards):
    """The face model that the head prior is trained on; nothing else needs it."""
    if SETTINGS.ict_facekit is None:
        raise WorkflowError("config: ict_facekit: missing; expected the path of ict_facekit.npz")
    return SETTINGS.ict_facekit


def training_landmarks(wildcards):
    """Triangulated landmarks of those of the subject's training sequences for which the capture holds any."""
    return landmarks(wildcards.subject, PLAN.training(wildcards.subject))


def sequence_landmarks(wildcards):
    """Triangulated landmarks of the wildcards' sequence, if the capture holds any."""
    return landmarks(wildcards.subject, [wildcards.sequence])


def training_points(wildcards):
    """Points of the face in the subject's training sequences."""
    return points(wildcards.subject, PLAN.training(wildcards.subject))


def sequence_points(wildcards):
    """Points of the face in the wildcards' sequence."""
    return points(wildcards.subject, [wildcards.sequence])


def points(subject, sequences):
    """Points of the face that the networks find, where they are there and wanted and the capture has no landmarks."""
    own = any(PLAN.landmarks(subject, sequence) for sequence in PLAN.sequences(subject))
    return [] if own or not DETECT else files_of(POINTS, subject, sequences)


def landmarks(subject, sequences):
    """Triangulated landmarks of those of the sequences for which the capture holds any."""
    return files_of(LANDMARKS, subject, [sequence for sequence in sequences if PLAN.landmarks(subject, sequence)])


def films(wildcards):
    """The films of the subject's own sequences: seen by cameras, on the orbits, and those that others drive."""
    own = PLAN.sequences(wildcards.subject)
    orbits = [name for name in own if name in SETTINGS.films.orbits]
    return [
        *files_of(CAPTURE_FILM, wildcards.subject, own),
        *files_of(ORBIT_FILM, wildcards.subject, orbits),
        *driven(CAPTURE_FILM)(wildcards),
    ]


def driven(pattern):
    """Input function: what is rendered of the subject's head driven by others."""

    def files(wildcards):
        subject = wildcards.subject
        drivers = [name for name in SETTINGS.films.drivers if PLAN.actor(subject, name)[0] != subject]
        return files_of(pattern, subject, drivers)

    return files


def compared(pattern):
    """Input function: few steps of diffusion beside many in the first held-out sequence, if that is wanted."""

    def files(wildcards):
        unseen = PLAN.unseen(wildcards.subject)[:1] if SETTINGS.speed.steps else []
        return files_of(pattern, wildcards.subject, unseen)

    return files


def film_cameras(wildcards):
    """Cameras that a sequence is rendered from: the held-out ones, for held-out sequences those of the films too."""
    more = SETTINGS.films.cameras if wildcards.sequence in PLAN.held_out_sequences else []
    return ",".join(dict.fromkeys([*PLAN.held_out_cameras, *more]))


def rig_file(wildcards):
    """The still rig of the capture, or the camera or path that belongs to a sequence."""
    return CAPTURE_RIG if wildcards.rig == "capture" else PATH_RIG


def real_pictures(wildcards):
    """What really happened in a sequence: the isolated heads of whoever plays it."""
    actor, sequence = PLAN.actor(wildcards.subject, wildcards.sequence)
    return files_of(TARGETS, actor, [sequence])


def capture_format(wildcards):
    """The module that reads the subject's capture: its code counts as the stage's."""
    return PLAN.format(wildcards.subject)


def view_of(wildcards):
    """What the rig's name means: a camera, a path, whether the head stands still."""
    return view(wildcards.rig, SETTINGS.films.paths)


def path_file(wildcards):
    """The file of a path of one's own, in a list that is empty for other rigs."""
    return [view_of(wildcards).name] if view_of(wildcards).kind == "path" else []


def driver_pictures(wildcards):
    """The real pictures to show beside a film: of another person who drives, or seen by the film's own camera."""
    recorded = wildcards.sequence not in PLAN.motions and SETTINGS.film.beside == "driver"
    other = PLAN.actor(wildcards.subject, wildcards.sequence)[0] != wildcards.subject
    return real_pictures(wildcards) if recorded and (other or view_of(wildcards).kind == "camera") else []


def calibration(wildcards):
    """Files that tell of the subject's cameras."""
    return PLAN.calibration(wildcards.subject)


def seen_first(wildcards):
    """The pictures that the subject's calibration is held against: one recording's."""
    return PLAN.capture(wildcards.subject).files(PLAN.first_recording(wildcards.subject))


def recording(wildcards):
    """What a span is read from: pictures, masks, plates."""
    return PLAN.recording(wildcards.subject, wildcards.sequence, wildcards.span)


def given_clouds(wildcards):
    """The clouds of a span that the capture brings along, if they are wanted."""
    taken = PLAN.clouds(wildcards.subject, wildcards.sequence, wildcards.span) if SETTINGS.pointcloud.given else []
    return list(map(str, taken))


def guiding(files):
    """Input function: what `files` names, where clouds are matched here and a head guides that."""
    wanted = SETTINGS.pointcloud.guided and SETTINGS.pointcloud.backend == "cpu"
    return lambda wildcards: files(wildcards) if wanted and not given_clouds(wildcards) else []


def stored_geometry(stage):
    """Input function: the buffers of the training sequences, where the stage reads stored ones."""
    return of_training(CAPTURE_BUFFERS) if getattr(SETTINGS, stage).buffers == "stored" else nothing


def rasterized_geometry(stage):
    """Input function: the meshes of the training sequences, where the stage rasterises its buffers from them."""
    return nothing if getattr(SETTINGS, stage).buffers == "stored" else of_training(MESHES)


def rasterizing_rig(stage):
    """Input function: the rig that a stage rasterises its buffers for."""
    rasterized = getattr(SETTINGS, stage).buffers != "stored"
    return lambda wildcards: files_of(CAPTURE_RIG, wildcards.subject, [""]) if rasterized else []


def nothing(wildcards):
    """Input function: no file."""
    return []
