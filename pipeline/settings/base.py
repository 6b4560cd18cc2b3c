"""What all settings have in common."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Device = Literal["cpu", "cuda"]


class Section(BaseModel):
    """A part of config.yaml: its values cannot be changed; a key that it does not know, or an infinite number, is an
    error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StageSettings(Section):
    """What one stage reads from config.yaml: the section that bears the name of the module, pipeline/settings/<it>.py.

    `pipeline.planning.config` finds the class by this base; every field has a default and says what it means.
    """

    @property
    def gpus(self) -> int:
        """GPUs that a job of the stage holds while it runs."""
        return 0


class OnDevice(Section):
    """For a stage whose networks run on either device; named before StageSettings among its bases."""

    device: Device = Field(default="cpu", description="where the networks run; cuda is one NVIDIA GPU")

    @property
    def gpus(self) -> int:
        """One where the networks run on it."""
        return int(self.device == "cuda")
