"""Settings of the stage that trains the head prior."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.base import Section, StageSettings
from pipeline.settings.precision import AffectsNoResult
from pipeline.settings.prior_config import PriorConfig


class PriorModel(Section):
    """Sizes of the networks; the face model fixes the rest (prior_config.py says what they mean)."""

    pairs: int = Field(default=20, ge=0, le=64, description="mirrored pairs of anchors")
    mid: int = Field(default=10, ge=2, le=32, description="anchors on the middle line")
    glob: int = Field(default=64, ge=1, le=256, description="width of the global part of z_id")
    loc: int = Field(default=16, ge=1, le=64, description="width of each member's part of z_id")
    neighbours: int = Field(default=5, ge=1, le=16, description="nearest members asked for each point")
    blend_std: float = Field(default=3.0, gt=0, description="distance of the last neighbour in standard deviations")
    global_distance: float = Field(default=0.2, gt=0, description="distance of the global member, head units")
    local_width: int = Field(default=64, ge=1, le=512, description="width of a local network")
    local_layers: int = Field(default=3, ge=1, le=8, description="hidden layers of a local network")
    anchor_width: int = Field(default=64, ge=1, le=512, description="width of the network that predicts anchors")
    compressed: int = Field(default=32, ge=1, le=256, description="width of the identity summary")
    warp_width: int = Field(default=128, ge=1, le=1024, description="width of the deformation network")
    warp_layers: int = Field(default=5, ge=2, le=12, description="hidden layers of the deformation network")
    activation: Literal["softplus", "relu"] = Field(default="softplus", description="softplus has beta 100")

    def config(self, identity_modes: int, expression_modes: int, landmarks: int) -> PriorConfig:
        """The checkpoint's config for a face model with so many modes (hair included) and landmarks; two eyeballs."""
        sizes = self.model_dump()
        return PriorConfig(
            **{key: value for key, value in sizes.items() if key != "mid"},
            anchors=2 * self.pairs + self.mid,
            exp=expression_modes,
            identity_modes=identity_modes,
            expression_modes=expression_modes,
            landmarks=landmarks,
            eyes=2,
            least_code=0.0,
            box_min=(-0.62, -0.5, -0.75),
            box_max=(0.62, 0.85, 0.5),
        )


class PriorSettings(StageSettings):
    """Everything that decides the trained weights, beside the face model."""

    model: PriorModel = Field(default_factory=PriorModel, description="sizes of the networks")
    heads: int = Field(default=3000, ge=2, le=1_000_000, description="random heads to train on")
    points: int = Field(default=3200, ge=16, le=100_000, description="samples of each head")
    steps: int = Field(default=30_000, ge=1, le=10_000_000, description="optimisation steps")
    batch_heads: int = Field(default=32, ge=1, le=4096, description="heads in a step")
    batch_points: int = Field(default=128, ge=1, le=100_000, description="points of each of them in a step")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Adam's rate at the start; it falls as a cosine")
    correspondence: float = Field(default=0.5, ge=0, description="weight of the distance to the known canonical point")
    hyper: float = Field(default=0.02, ge=0, description="weight of the size of the hyper coordinates")
    checkpoint_steps: Annotated[int, AffectsNoResult()] = Field(
        default=500, ge=1, description="steps between saved states"
    )
    seed: int = Field(default=0, ge=0, description="seed of heads, samples, weights and order")
