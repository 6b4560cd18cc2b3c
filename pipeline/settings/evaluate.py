"""Settings of the evaluate stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class EvaluateSettings(StageSettings):
    """How pictures are compared and how strong the mesh_colour baseline is."""

    pixels_per_degree: float = Field(
        default=67.0,
        gt=0,
        le=500,
        description="viewing condition of FLIP and JOD; 67 is a 0.7 m wide 4K screen seen from 0.7 m",
    )
    frames_per_second: float = Field(
        default=24.0, ge=0, le=1000, description="rate at which a film is judged in JOD (ColorVideoVDP); 0: no JOD"
    )
    colour_cell: float = Field(
        default=0.01, ge=0.004, le=0.1, description="cell of the mesh_colour baseline, head units (0.01 is 2.5 mm)"
    )
    colour_steps: int = Field(
        default=200, ge=1, le=100_000, description="most training steps that mesh_colour averages, evenly spaced"
    )
    lpips: str | None = Field(
        default=None,
        min_length=1,
        description="safetensors file of LPIPS on AlexNet, see docs/stages/evaluate.md; null: no LPIPS",
    )
    face_embedding: str | None = Field(
        default=None,
        min_length=1,
        description="ONNX file of a face embedding for pictures of 112x112, such as ArcFace's; null: no CSIM",
    )
    face_colours: Literal["centred", "bytes"] = Field(
        default="centred",
        description="what the face embedding reads: colours from -1 to 1 (centred) or from 0 to 255 (bytes)",
    )
    comparison_pictures: int = Field(
        default=24,
        ge=1,
        le=1000,
        description="most pictures of the baselines that are kept for the report, of the split heldout_both",
    )
