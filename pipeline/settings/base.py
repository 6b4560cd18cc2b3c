"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of config.yaml: its values cannot be changed, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StageSettings(Section):
    """What one stage reads from config.yaml: the section that bears the name of the module, pipeline/settings/<it>.py.

    `pipeline.planning.config` finds the class by this base; every field has a default and says what it means.
    """
