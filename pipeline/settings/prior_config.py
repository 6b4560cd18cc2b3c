"""The shape of a head prior: every size that the weights of one checkpoint depend on."""

from typing import Literal

from pydantic import Field, model_validator

from pipeline.settings.base import Section

Corner = tuple[float, float, float]
WHERE_FROM = (
    "one is shipped, pipeline/head/weights/head_prior.safetensors; another is trained by `pipeline.stages.prior`; "
    "MonoNPHM's own is had from its authors, https://simongiebenhain.github.io/MonoNPHM, under their terms (research "
    "only), and goes through `python -m pipeline.head.convert` first"
)
WITHOUT_LANDMARKS = (
    "this head prior does not know where landmarks and eyeballs lie on a head "
    "(`python -m pipeline.head.marks IN.safetensors OUT.safetensors` adds them)"
)


class PriorConfig(Section):
    """Sizes of MonoNPHM's two networks. The release is anchors 65, pairs 30, glob 64, loc 32, exp 100, K 12."""

    anchors: int = Field(ge=2, description="anchors A; the first 2 * pairs are left and right of a pair in turn")
    pairs: int = Field(ge=0, description="mirrored pairs of anchors; the members of a pair share weights")
    glob: int = Field(ge=1, description="width of the global part of z_id")
    loc: int = Field(ge=1, description="width of each member's part of z_id")
    exp: int = Field(ge=1, description="width E of z_exp")
    hyper: int = Field(default=2, ge=0, description="hyper coordinates beside x, y, z")
    neighbours: int = Field(ge=1, description="K nearest members asked for each point, beside the global one")
    blend_std: float = Field(gt=0, description="distance of the last neighbour in standard deviations of the blend")
    global_distance: float = Field(gt=0, description="distance at which the global member stands, head units")
    local_width: int = Field(ge=1, description="width of a local network")
    local_layers: int = Field(ge=1, description="hidden layers of a local network")
    anchor_width: int = Field(ge=1, description="width of the two hidden layers that predict the anchors")
    compressed: int = Field(ge=1, description="width of the identity summary that the deformation reads")
    warp_width: int = Field(ge=1, description="width of the deformation network")
    warp_layers: int = Field(ge=2, description="hidden layers of the deformation network")
    activation: Literal["softplus", "relu"] = Field(description="softplus is MonoNPHM's, with beta 100")
    identity_modes: int = Field(ge=1, description="directions I of the identity statistics")
    expression_modes: int = Field(ge=1, description="directions J of the expression statistics")
    box_min: Corner = Field(description="lower corner of the space that holds a head, head units")
    box_max: Corner = Field(description="upper corner, head units")
    units_per_metre: float = Field(default=4.0, gt=0, description="head units in a metre")
    landmarks: int = Field(default=0, ge=0, description="facial landmarks whose places it knows; 0: it knows of none")
    eyes: int = Field(default=0, ge=0, le=2, description="eyeballs whose places it knows, the left one first")
    least_code: float | None = Field(
        default=None, description="least value that training showed of any number of z_exp; null: no bound"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "PriorConfig":
        if 2 * self.pairs > self.anchors:
            raise ValueError(f"{self.pairs} pairs need {2 * self.pairs} anchors, there are {self.anchors}")
        if self.neighbours > self.anchors:
            raise ValueError(f"{self.neighbours} neighbours of {self.anchors} anchors")
        if any(low >= high for low, high in zip(self.box_min, self.box_max, strict=True)):
            raise ValueError(f"box_min {self.box_min} is not below box_max {self.box_max}")
        return self

    @property
    def members(self) -> int:
        """Local networks as seen from outside: one per anchor and the global one."""
        return self.anchors + 1

    @property
    def types(self) -> int:
        """Distinct sets of local weights."""
        return self.anchors - self.pairs + 1

    @property
    def z_id(self) -> int:
        """Width D of z_id: global part, then every member's."""
        return self.glob + self.members * self.loc

    @property
    def z_exp(self) -> int:
        """Width E of z_exp."""
        return self.exp

    @property
    def coordinates(self) -> int:
        """Width of a canonical point: x, y, z and the hyper coordinates."""
        return 3 + self.hyper
