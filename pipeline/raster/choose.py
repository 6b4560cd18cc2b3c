"""Which rasteriser draws."""

from importlib.util import find_spec

from pipeline.raster.fragments import Rasterizer


def available_rasterizer() -> Rasterizer:
    """nvdiffrast where the package (envs/nvdiffrast.sh) and CUDA are present, otherwise Embree on the CPU."""
    if find_spec("nvdiffrast") is not None:
        import torch  # takes seconds, and only the GPU back-end needs it

        if torch.cuda.is_available():
            from pipeline.raster.cuda import CudaRasterizer

            return CudaRasterizer()
    from pipeline.raster.embree import EmbreeRasterizer

    return EmbreeRasterizer()
