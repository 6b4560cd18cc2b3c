"""config.yaml as one pydantic model: the root of all settings, and their check.

The sections of the stages are found, not listed: every module of pipeline/settings that defines a `StageSettings` is
one. Only the Snakefile imports this; a stage imports its own settings, so that its code digest depends on no other
stage.
"""

import json
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from pipeline import settings
from pipeline.errors import ConfigError
from pipeline.planning.films import PATHS, check_names, motion_steps
from pipeline.planning.plan import Plan, require_known
from pipeline.planning.presets import ABLATIONS, BASELINES, PRESETS, laid_over
from pipeline.planning.table import DRIVES, read_table
from pipeline.settings.animate import AnimateSettings
from pipeline.settings.base import Device, OnDevice, Section, StageSettings
from pipeline.settings.ingest import IngestSettings
from pipeline.settings.precision import aside, counted
from pipeline.settings.prior_config import WHERE_FROM
from pipeline.settings.render import RenderSettings

S = TypeVar("S", bound=StageSettings)
VARIANT = re.compile(r"[\w-]+")
RENAMED = {
    "train.draw": "train.buffers",
    "distill.draw": "distill.buffers",
    "report.largest_film_mb": "report.embedded_mb",
}
VARIED = ("train", "render", "evaluate")  # sections whose stages run once for every variant


class Naming(Section):
    """A section that names subjects, cameras and sequences: a number is welcome where a name is meant."""

    model_config = ConfigDict(coerce_numbers_to_str=True)


class Split(Naming):
    """What training never sees."""

    cameras: list[str] = Field(min_length=1, description="held-out cameras; the first is the one that the film shows")
    sequences: list[str] = Field(
        default=[],
        description="held-out sequences, of whichever subject has them; `talk@80-100` is a stretch of talk's frames",
    )


class Films(Naming):
    """What is rendered besides the held-out cameras."""

    cameras: list[str] = Field(
        default=[], description="training cameras that the held-out sequences are rendered from too"
    )
    orbits: list[str] = Field(default=[], description="sequences that are also rendered from the orbit")
    drivers: list[str] = Field(
        default=[], description="sequences of other people that drive the head, as subject~sequence"
    )
    motions: dict[str, str] = Field(
        default={},
        description="motions of your own, a file for each name: keyframes (.json) or curves of a face (.csv)",
    )
    paths: dict[str, str] = Field(default={}, description="camera paths of your own, a file (.json) for each name")


class Root(Naming):
    """What config.yaml says beside the sections of the stages."""

    preset: Literal["demo", "paper"] = Field(
        default="demo",
        description="values that the sections below start from; what a section sets itself wins",
    )
    device: Device = Field(
        default="cpu", description="where the networks of all stages run; a stage's own `device` wins"
    )
    captures: str = Field(description="table of the recordings: subject, sequence, folder, frames")
    results: str = Field(default="results", min_length=1, description="folder that everything is written under")
    head_prior: str | None = Field(default=None, description="weights of a head prior; null: the one that ships")
    ict_facekit: str | None = Field(default=None, description="ict_facekit.npz, only needed to train a head prior anew")
    span: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="time steps per chunk; null: 8, doubled until a sequence has at most 32 chunks; no result "
        "depends on it",
    )
    variants: dict[str, dict[str, Any]] = Field(
        default={},
        description="other settings of train, render and evaluate, under names of your own; each is made and "
        "measured on request, see docs/stages/ablations.md",
    )
    avatars: list[str] = Field(default=[], description="subjects that get an avatar; empty: all")
    split: Split
    films: Films = Films()

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset_and_device(cls, values: Any) -> Any:
        name = values.get("preset", "demo") if isinstance(values, dict) else None
        if not (isinstance(name, str) and name in PRESETS):
            return values  # the check of the fields says so
        if "device" in values:
            sections = [key for key, field in cls.model_fields.items() if _is_on_device(field.annotation)]
            values = laid_over({key: {"device": values["device"]} for key in sections}, values)
        return laid_over(PRESETS[name], values)

    def of(self, section: type[S]) -> S:
        """The settings of a stage, by their class."""
        return getattr(self, section_name(section))

    def stage(self, name: str, whole: bool = False) -> str:
        """A stage's settings as canonical JSON, for its command line and for Snakemake to compare: without those that
        affect no result, which `aside` has, unless the `whole` is asked for."""
        section = getattr(self, name)
        values = section.model_dump(mode="json") if whole else counted(section)
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def aside(self) -> str:
        """The values that affect no result, as JSON by the name of the settings' class (`cli.ASIDE`)."""
        sections = (getattr(self, name) for name in stage_sections())
        return json.dumps({type(section).__name__: values for section in sections if (values := aside(section))})

    def check_paths(self) -> None:
        """Raise ConfigError for a path that cannot be what it is meant for.

        `head_prior` must be a file, unless it is the one that the workflow trains; `results` a folder, or nothing yet.
        """
        for key in ("results", "head_prior", "ict_facekit"):
            require_plain(f"config: {key}", getattr(self, key) or "")
        above = [path for path in (Path(self.results), *Path(self.results).parents) if path.exists()]
        if above and not above[0].is_dir():
            raise ConfigError(f"config: results: {above[0]} is a file; expected a folder, or nothing yet")
        trained = Path(self.results) / "head_prior.safetensors"
        if self.head_prior and Path(self.head_prior) != trained and not Path(self.head_prior).is_file():
            raise ConfigError(f"config: head_prior: no file {self.head_prior}; {WHERE_FROM}")

    @property
    def all_variants(self) -> dict[str, dict[str, Any]]:
        """What is laid over the settings for every variant by name: ablations, baselines and those of one's own."""
        return {**self.variants, **ABLATIONS, **BASELINES}

    def ablated(self, name: str) -> Self:
        """The settings of a variant: one part of the method left out or replaced, or whatever else it changes."""
        return self.model_validate(laid_over(self.model_dump(), self.all_variants[name]))

    def check_variants(self) -> None:
        """Raise ConfigError for a variant whose name is taken or no plain word, or that changes what is shared."""
        for name, values in self.variants.items():
            if name in {**ABLATIONS, **BASELINES} or not VARIANT.fullmatch(name):
                taken = ", ".join({**ABLATIONS, **BASELINES})
                raise ConfigError(f"config: variants: {name!r}; expected letters, digits, - and _, and none of {taken}")
            if shared := sorted(values.keys() - set(VARIED)):
                raise ConfigError(
                    f"config: variants.{name}: {shared[0]}: variants share it; expected {', '.join(VARIED)}"
                )
            try:
                self.ablated(name)
            except ValidationError as error:
                lines = (_explain(fault).removeprefix("config: ") for fault in error.errors())
                raise ConfigError("\n".join(f"config: variants.{name}.{line}" for line in lines)) from None

    def plan(self) -> Plan:
        """Read the capture table and check every name in the config against it. Raises ConfigError."""
        split = self.split
        plan = Plan(
            read_table(Path(self.captures)), self.of(IngestSettings).stride, self.span, split.cameras, split.sequences
        )
        plan.check()
        require_known("avatars", self.avatars, plan.subjects())
        plan.check_split(self.avatars or plan.subjects())
        drivers = [f"{recording.subject}{DRIVES}{recording.sequence}" for recording in plan.recordings]
        require_known("films.drivers", self.films.drivers, drivers)
        require_known("films.orbits", self.films.orbits, [recording.sequence for recording in plan.recordings])
        plan.motions.update(
            motion_steps(self.films.motions, self.of(RenderSettings).frames_per_second, self.of(AnimateSettings))
        )
        check_names("films.motions", self.films.motions, [recording.sequence for recording in plan.recordings])
        check_names("films.paths", self.films.paths, [*PATHS, *plan.all_cameras()])
        for subject in self.avatars or plan.subjects():
            require_known("films.cameras", self.films.cameras, plan.cameras(subject), f" for subject {subject}")
        return plan


def require_plain(what: str, path: str) -> str:
    """The path. Raises ConfigError for signs that Snakemake would take for wildcards or variables."""
    if found := [sign for sign in "{}<>" if sign in path]:
        raise ConfigError(f"{what}: {path!r} has a {found[0]} in it, which Snakemake gives a meaning; expected none")
    return path


def section_name(section: type[StageSettings]) -> str:
    """The key of a stage's section in config.yaml: the name of the module that defines it."""
    return section.__module__.rpartition(".")[2]


def stage_sections() -> dict[str, type[StageSettings]]:
    """The settings of every stage by the name of its section. Raises TypeError where a module defines several."""
    found: dict[str, type[StageSettings]] = {}
    for module in iter_modules(settings.__path__, f"{settings.__name__}."):
        for value in vars(import_module(module.name)).values():
            if not _is_section(value) or value.__module__ != module.name:
                continue
            if section_name(value) in found:
                raise TypeError(f"{module.name}: several StageSettings; expected one, for the stage of that name")
            found[section_name(value)] = value
    return found


def _is_section(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, StageSettings) and value is not StageSettings


def _is_on_device(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, OnDevice)


SECTIONS: dict[str, Any] = {name: (section, section()) for name, section in stage_sections().items()}
Settings = create_model(
    "Settings",
    __base__=Root,
    __doc__="config.yaml: where the captures are, what is held out, and one section of settings per stage.",
    **SECTIONS,
)


def load(config: dict[str, Any]) -> Root:
    """Validate a config. Raises ConfigError with one line per fault: its dotted key and what is allowed."""
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(fault) for fault in error.errors())) from error


def _explain(fault: Any) -> str:
    *parents, name = fault["loc"]
    key = ".".join(map(str, fault["loc"]))
    if key in RENAMED and fault["type"] == "extra_forbidden":
        return f"config: {key}: is called {RENAMED[key]} now"
    if fault["type"] == "extra_forbidden":
        return f"config: {key}: unknown key; allowed: {', '.join(_fields(parents))}"
    if fault["type"] == "missing":
        return f"config: {key}: missing; expected {_description(parents, name)}"
    return f"config: {key}: {fault['msg']}; it is {fault['input']!r}"


def _model(parents: list[Any]) -> type[BaseModel]:
    model: Any = Settings
    for name in parents:
        model = model.model_fields[name].annotation
    return model


def _fields(parents: list[Any]) -> list[str]:
    return sorted(_model(parents).model_fields)


def _description(parents: list[Any], name: str) -> str:
    field = _model(parents).model_fields[name]
    return field.description or ", ".join(_fields([*parents, name]))
