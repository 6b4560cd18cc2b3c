"""The JSON file of keyframes that animates a head, and the one of a camera's path: what may stand in them."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from pipeline.errors import DataError
from pipeline.settings.base import Section

Easing = Literal["linear", "smooth", "in", "out", "hold"]
Triple = tuple[float, float, float]
M = TypeVar("M", bound="Timed")


class Key(Section):
    """A moment of an animation. Between two keys everything goes over as the later one's `easing` says."""

    seconds: float = Field(ge=0, le=36_000, description="when")
    easing: Easing = Field(
        default="smooth", description="how it is reached: smooth starts and ends at rest, hold jumps"
    )


class Pose(Key):
    """What the face and the head do at a key; what is left out is at rest."""

    weights: dict[str, float] = Field(default={}, description="ARKit's weights by name, added to `like`")
    like: str | None = Field(default=None, pattern=r"^.+:\d+$", description="the subject's own face at sequence:step")
    turn_degrees: Triple = Field(default=(0, 0, 0), description="head: yaw to its left, pitch down, roll to its right")
    move_mm: Triple = Field(default=(0, 0, 0), description="head: to its left, up, to the front")
    gaze_degrees: tuple[float, float] | None = Field(default=None, description="both eyes: to the left, up")


class View(Key):
    """Where a camera stands at a key: in the axes of the head at rest, from its middle."""

    eye: Triple = Field(description="metres to the head's left, up, to the front")
    look_at: Triple = Field(default=(0, 0, 0), description="what is in the middle of the picture, like `eye`")
    zoom: float = Field(
        default=1.0, gt=0, le=100, description="2 shows half as much as the rig's picture does at that distance"
    )


class Timed(Section):
    """Keys in the order of time."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys."""
        return next(getattr(self, name) for name in type(self).model_fields)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        moments = [key.seconds for key in self.keys]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError(f"seconds are {moments}; expected each above the one before")
        return self

    def steps(self, rate: float) -> int:
        """Pictures of a film at `rate` a second, from 0 to the last key."""
        return int(self.keys[-1].seconds * rate + 1e-6) + 1


class Animation(Timed):
    """A head's animation."""

    keyframes: tuple[Pose, ...] = Field(min_length=1, max_length=100_000)


class CameraPath(Timed):
    """A camera's path. A film that is longer holds its last view."""

    views: tuple[View, ...] = Field(min_length=1, max_length=100_000)


def read_keys(path: Path, kind: type[M]) -> M:
    """Read such a file. Raises DataError with one line that names file and key."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a JSON file") from error
    except ValidationError as error:
        fault: Any = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise DataError(f"{path}: {where}: {fault['msg']}") from error
