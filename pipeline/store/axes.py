"""The names that an array's axes may have, and how far each is cut into pieces that can be read alone."""

from enum import StrEnum


class Axis(StrEnum):
    """What one dimension of a stored array counts."""

    TIME = "time"
    CAMERA = "camera"
    ROW = "row"  # of a picture or of a matrix
    COLUMN = "column"
    CHANNEL = "channel"
    XYZ = "xyz"
    XYZ_AND_HYPER = "xyz and hyper"
    POINT = "point"
    VERTEX = "vertex"
    FACE = "face"
    CORNER = "corner"
    LANDMARK = "landmark"
    EYE = "eye"  # the subject's left one first
    XY = "xy"
    BOX = "box"  # x, y of its middle, edge
    ANGLE = "angle"  # yaw, pitch
    SPHERE = "sphere"  # x, y, z of its centre, radius
    CODE = "code"
    STEP = "step"  # of the offsets that say which rows belong to a time step
    PICTURE = "picture"  # a list of pictures that share neither time nor camera


# A training crop of a large picture decodes only the tiles that it touches (benchmarks/loader.py). Smaller tiles are no
# faster, since each takes its time to find, and make the zip's directory long.
LARGEST = {Axis.TIME: 1, Axis.CAMERA: 1, Axis.ROW: 512, Axis.COLUMN: 512}
ROWS = 1 << 16  # of an array that grows while it is written: what one time step owns is read alone, nearly


def pieces(axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one piece of an array: one tile of one camera's picture at one time step, whole along other axes.

    A first axis of length 0 grows while it is written.
    """
    sizes = [LARGEST.get(axis, size) for axis, size in zip(axes, shape, strict=True)]
    if shape and shape[0] == 0:
        sizes[0] = LARGEST.get(axes[0], ROWS)
        return tuple(max(size, 1) for size in sizes)
    return tuple(max(min(size, whole), 1) for size, whole in zip(sizes, shape, strict=True))


def known(axes: tuple[str, ...]) -> tuple[Axis, ...]:
    """The axes of these names. Raises ValueError for a name that no axis has, which would be stored uncut."""
    names = {axis.value: axis for axis in Axis}
    if unknown := [name for name in axes if name not in names]:
        raise ValueError(f"unknown axis {', '.join(unknown)}; pipeline.store.axes knows {', '.join(names)}")
    return tuple(names[name] for name in axes)
