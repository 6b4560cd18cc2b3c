"""config.yaml as one pydantic model: the root of all settings, their check and their JSON schema.

Only the Snakefile imports this; a stage imports its own settings, so that its code digest depends on no other stage.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ConfigError
from pipeline.planning.plan import DRIVES, Plan, read_table, require_known
from pipeline.planning.presets import ABLATIONS, PRESETS, laid_over
from pipeline.settings.ablations import AblationsSettings
from pipeline.settings.calibrate import CalibrateSettings
from pipeline.settings.distill import DistillSettings
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.settings.fit_identity import FitIdentitySettings
from pipeline.settings.fit_quality import FitQualitySettings
from pipeline.settings.fit_sequence import FitSequenceSettings
from pipeline.settings.ingest import IngestSettings
from pipeline.settings.isolate import IsolateSettings
from pipeline.settings.landmarks import LandmarksSettings
from pipeline.settings.mesh import MeshSettings
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.settings.prior import PriorSettings
from pipeline.settings.prior_config import WHERE_FROM
from pipeline.settings.rasterize import RasterizeSettings
from pipeline.settings.render import RenderSettings
from pipeline.settings.report import ReportSettings
from pipeline.settings.retarget import RetargetSettings
from pipeline.settings.rig import RigSettings
from pipeline.settings.speed import SpeedSettings
from pipeline.settings.train import TrainSettings

SCHEMA = Path(__file__).resolve().parents[2] / "workflow/schemas/config.schema.json"


class Section(BaseModel):
    """A part of config.yaml; an unknown key is an error, a number is welcome where a name is meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Split(Section):
    """What training never sees."""

    cameras: list[str] = Field(min_length=1, description="held-out cameras; the first is the one that the film shows")
    sequences: list[str] = Field(min_length=1, description="held-out sequences, of whichever subject has them")


class Films(Section):
    """What is rendered besides the held-out cameras."""

    cameras: list[str] = Field([], description="training cameras that the held-out sequences are rendered from too")
    orbits: list[str] = Field([], description="sequences that also drive the head on a path round it")
    drivers: list[str] = Field([], description="sequences of other people that drive the head, as subject~sequence")


class Settings(Section):
    """config.yaml: where the captures are, what is held out, and one section of settings per stage."""

    preset: Literal["demo", "paper"] = Field(
        "demo",
        description="values that the sections below start from; what stands in a section itself wins (the defaults "
        "shown are the demo's; pipeline/planning/presets.py lists the paper's)",
    )
    captures: str = Field(description="table of the recordings: subject, sequence, folder, frames")
    results: str = Field("results", min_length=1, description="folder that everything is written under")
    head_prior: str | None = Field(None, description="weights of a head prior; none means the one that is shipped")
    ict_facekit: str | None = Field(None, description="ict_facekit.npz, only needed to train a head prior anew")
    span: int = Field(8, ge=1, le=100_000, description="time steps per chunk; no result depends on it")
    avatars: list[str] = Field([], description="subjects that get an avatar; none named means all")
    split: Split
    films: Films = Films()
    calibrate: CalibrateSettings = CalibrateSettings()
    ingest: IngestSettings = IngestSettings()
    pointcloud: PointcloudSettings = PointcloudSettings()
    landmarks: LandmarksSettings = LandmarksSettings()
    fit_identity: FitIdentitySettings = FitIdentitySettings()
    fit_sequence: FitSequenceSettings = FitSequenceSettings()
    mesh: MeshSettings = MeshSettings()
    fit_quality: FitQualitySettings = FitQualitySettings()
    retarget: RetargetSettings = RetargetSettings()
    rig: RigSettings = RigSettings()
    rasterize: RasterizeSettings = RasterizeSettings()
    isolate: IsolateSettings = IsolateSettings()
    train: TrainSettings = TrainSettings()
    distill: DistillSettings = DistillSettings()
    render: RenderSettings = RenderSettings()
    speed: SpeedSettings = SpeedSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()
    prior: PriorSettings = PriorSettings()
    ablations: AblationsSettings = AblationsSettings()

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, values: Any) -> Any:
        name = values.get("preset", "demo") if isinstance(values, dict) else None
        known = isinstance(name, str) and name in PRESETS  # if not, the check of the fields says so
        return laid_over(PRESETS[name], values) if known else values

    def stage(self, name: str) -> str:
        """A stage's settings as canonical JSON, for its command line and for Snakemake to compare."""
        return json.dumps(getattr(self, name).model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def check_prior(self) -> None:
        """Raise ConfigError where `head_prior` names no file, unless it is the one that the workflow trains."""
        trained = Path(self.results) / "head_prior.safetensors"
        if self.head_prior and Path(self.head_prior) != trained and not Path(self.head_prior).is_file():
            raise ConfigError(f"config: head_prior: no file {self.head_prior}; {WHERE_FROM}")

    def ablated(self, name: str) -> "Settings":
        """The same settings with one part of the method left out or replaced."""
        return Settings.model_validate(laid_over(self.model_dump(), ABLATIONS[name]))

    def plan(self) -> Plan:
        """Read the capture table and check every name in the config against it. Raises ConfigError."""
        split = self.split
        plan = Plan(read_table(Path(self.captures)), self.ingest.stride, self.span, split.cameras, split.sequences)
        plan.check()
        require_known("avatars", self.avatars, plan.subjects())
        drivers = [f"{recording.subject}{DRIVES}{recording.sequence}" for recording in plan.recordings]
        require_known("films.drivers", self.films.drivers, drivers)
        require_known("films.orbits", self.films.orbits, [recording.sequence for recording in plan.recordings])
        for subject in plan.subjects():
            require_known("films.cameras", self.films.cameras, plan.cameras(subject), f" for subject {subject}")
        return plan


def load(config: dict[str, Any]) -> Settings:
    """Validate a config. Raises ConfigError with one line per fault: its dotted key and what is allowed."""
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(fault) for fault in error.errors())) from error


def _explain(fault: Any) -> str:
    *parents, name = fault["loc"]
    key = ".".join(map(str, fault["loc"]))
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


def schema() -> str:
    """The JSON schema of config.yaml, for editors."""
    return json.dumps(Settings.model_json_schema(), indent=2) + "\n"


def main() -> None:
    """Write the schema beside the rules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write-schema", action="store_true", required=True, help=f"write {SCHEMA.name}")
    parser.parse_args()
    SCHEMA.write_text(schema())


if __name__ == "__main__":
    main()
