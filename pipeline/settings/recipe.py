"""How an avatar is trained: steps, rates and weights."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.settings.precision import AffectsNoResult, Computing


class LoopSettings(Computing):
    """What any run of the training loop needs. A budget is a number of steps, never a time, so that results repeat."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of the weights, the data order and the noise")
    texture_steps: int = Field(
        default=400,
        ge=0,
        le=1_000_000,
        description="first steps, in which the planes alone learn the colours of the head",
    )
    steps: int = Field(
        default=1000, ge=0, le=10_000_000, description="steps of the whole model after the texture steps"
    )
    batch: int = Field(default=2, ge=1, le=256, description="pictures per step, of all processes together")
    accumulation: int = Field(
        default=1,
        ge=1,
        le=256,
        description="gradient accumulation: parts into which each process divides its pictures of a step",
    )
    checkpointing: Annotated[bool, AffectsNoResult()] = Field(
        default=False,
        description="gradient checkpointing: compute activations twice instead of keeping them, for less memory",
    )
    crop_height: int = Field(default=160, ge=8, le=1024, description="height of the random crops in pixels")
    crop_width: int = Field(default=112, ge=8, le=1024, description="width of the random crops in pixels")
    crop_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="a random share of the crop's sides, at least this one, is cut out and enlarged to the crop",
    )
    keep_latents: bool = Field(
        default=False,
        description="encode every whole picture once and cut the crops out of its latents (backbone pretrained, "
        "crop_share 1)",
    )
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="highest learning rate of the networks")
    plane_learning_rate: float = Field(
        default=1e-2, gt=0, le=1, description="highest learning rate of the feature planes"
    )
    warmup_steps: int = Field(
        default=50, ge=0, le=100_000, description="steps over which the networks' rate rises from 0"
    )
    rate_decay: Literal["cosine", "none"] = Field(
        default="cosine", description="how the learning rates fall towards the end"
    )
    beta2: float = Field(default=0.99, ge=0, lt=1, description="AdamW's memory of squared gradients")
    weight_decay: float = Field(default=1e-2, ge=0, le=1, description="AdamW's weight decay")
    gradient_limit: float = Field(
        default=1.0, gt=0, le=1e3, description="gradient clipping: largest norm of the gradient"
    )
    limited: Literal["all", "controlnet"] = Field(
        default="all",
        description="weights whose gradient is clipped; controlnet means the U-Net where that reads the condition "
        "itself (backbone plain)",
    )
    error: Literal["squared", "absolute"] = Field(
        default="squared",
        description="the training objective: squared or absolute difference of predicted and true latents",
    )
    snr_limit: float = Field(
        default=1.0,
        ge=1,
        le=1e6,
        description="min-SNR weighting: with 1, errors of x0 count alike at all noise levels, with 1e6 those of v",
    )
    texture_weight: float = Field(
        default=16.0, ge=0, le=100, description="weight of the loss of the planes' own colours (the texture)"
    )
    plane_smoothness: float = Field(
        default=1.0,
        ge=0,
        le=1e5,
        description="weight of the mean squared difference of neighbouring texels of the planes, by which texels "
        "that training seldom sees follow their neighbours",
    )
    eye_weight: float = Field(default=1.0, ge=1, le=100, description="weight of pixels round the eyes")
    mouth_weight: float = Field(default=1.0, ge=1, le=100, description="weight of pixels round the mouth")
    rare_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the pictures that are drawn with a weight that grows with the rarity of their "
        "expression; the others come in epochs",
    )
    average_decay: float = Field(default=0.99, ge=0, lt=1, description="decay of the running average of the weights")
    save_every: Annotated[int, AffectsNoResult()] = Field(
        default=200, ge=1, le=1_000_000, description="steps between saved states"
    )
    preview_every: Annotated[int, AffectsNoResult()] = Field(
        default=200, ge=1, le=1_000_000, description="steps between sample pictures"
    )
    fetch_every: Annotated[int | None, AffectsNoResult()] = Field(
        default=None,
        ge=1,
        le=10_000,
        description="steps between fetches of the losses, for which the host waits for the GPU; a loss that is not "
        "finite stops the training there; null: 1 on a CPU, 50 on a GPU",
    )
    read_ahead: Annotated[int | None, AffectsNoResult()] = Field(
        default=None,
        ge=0,
        le=64,
        description="steps whose pictures are read before they are needed; null: 0 on a CPU, 4 on a GPU",
    )
    readers: Annotated[int, AffectsNoResult()] = Field(default=2, ge=1, le=64, description="threads that read ahead")
    buffers: Literal["stored", "embree", "nvdiffrast"] = Field(
        default="stored",
        description="where the buffers of a crop come from: stored: the files of the stage rasterize; embree, "
        "nvdiffrast: rasterised from the meshes in each step, on the CPU or a GPU. Unless train.buffers is "
        "stored, the files are deleted when no other stage needs them any more",
    )

    @model_validator(mode="after")
    def _a_gpu_rasterises_for_a_gpu(self) -> "LoopSettings":
        if self.buffers == "nvdiffrast" and self.device != "cuda":
            raise ValueError(f"buffers nvdiffrast with device {self.device}; expected cuda")
        return self

    @model_validator(mode="after")
    def _a_cuda_graph_is_for_one_part(self) -> "LoopSettings":
        """Gradients of a part lie where the graph's next run, the next part's, puts its own."""
        if self.compile == "reduce-overhead" and self.accumulation > 1:
            raise ValueError(f"compile reduce-overhead with accumulation {self.accumulation}; expected compile default")
        return self

    @model_validator(mode="after")
    def _kept_latents_are_cut_not_enlarged(self) -> "LoopSettings":
        if self.keep_latents and self.crop_share < 1:
            raise ValueError(f"keep_latents with crop_share {self.crop_share}; expected 1")
        return self


class Recipe(LoopSettings):
    """How an avatar is trained at all noise levels."""

    terminal_share: float = Field(
        default=0.85,
        ge=0,
        le=1,
        description="share of the training pictures that get the last timestep, which is pure noise",
    )
