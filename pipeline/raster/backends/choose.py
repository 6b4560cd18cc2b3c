"""The rasteriser that the settings name."""

from importlib.util import find_spec

from pipeline.device import DeviceError, claim
from pipeline.raster.fragments import Rasterizer


def make_rasterizer(backend: str) -> Rasterizer:
    """A back-end by its name in `rasterize.backend`. Raises DeviceError where it cannot run on this machine."""
    if backend == "embree":
        from pipeline.raster.backends.embree import EmbreeRasterizer

        return EmbreeRasterizer()
    if find_spec("nvdiffrast") is None:
        raise DeviceError("rasterize.backend is nvdiffrast, which is not installed; envs/nvdiffrast.sh builds it")
    claim("cuda")
    from pipeline.raster.backends.cuda import CudaRasterizer

    return CudaRasterizer()
