"""Depth maps of many cameras fused into one cloud, as COLMAP does it (Schoenberger 2016), compiled.

Of each pixel's point all pixels of other views that show the same surface are gathered, and from those on further ones;
each is used once. It takes a third of the time of COLMAP, and no workspace is written for it.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.stereo.compiled import compiled

REACH = 1.0  # pixels between a pixel and the projection of the point that it joins, ...
LIKE = np.cos(np.radians(30.0))  # ... cosine between its normal and the first pixel's
MOST = 5  # pixel centres of a view within REACH of any place


def fuse(
    depths: np.ndarray, normals: Iterable[np.ndarray], rgb: Sequence[np.ndarray], cameras: Sequence[Camera],
    views: int | np.ndarray, depth_error: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Points (n, 3) float32 world metres, normals (n, 3) float32 world and colours (n, 3) uint8 sRGB.

    `depths` (C, H, W) float32 metres along z, 0 where unknown, padded; `normals` (h, w, 3) of each camera in its own
    frame; `rgb` (h, w, 3) uint8. A point needs `views` pixels, one number or (C,) by its first pixel's camera;
    `depth_error` is the largest relative difference in depth. Points are medians of their pixels', normals and colours
    are means.
    """
    pixels_from_world = np.stack([camera.intrinsics @ camera.camera_from_world[:3] for camera in cameras])
    world_from_pixels = np.stack(
        [camera.camera_from_world[:3, :3].T @ np.linalg.inv(camera.intrinsics) for camera in cameras]
    )
    centres = np.stack([camera.centre for camera in cameras])
    turned, colors = (np.zeros((*depths.shape, 3), kind) for kind in (np.float32, np.uint8))
    for i, (camera, normal, picture) in enumerate(zip(cameras, normals, rgb, strict=True)):
        camera.own(turned[i])[:] = normal @ camera.camera_from_world[:3, :3].astype(np.float32)
        camera.own(colors[i])[:] = picture
    points, sums, means = _fuse(
        depths, depths <= 0, turned, colors, pixels_from_world, world_from_pixels, centres,
        np.ascontiguousarray(np.broadcast_to(views, len(depths))), depth_error, REACH**2, LIKE,
    )  # fmt: skip
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    return points, (sums / np.maximum(length, 1e-20)).astype(np.float32), means


@compiled
def _fuse(depths, used, normals, rgb, pixels_from_world, world_from_pixels, centres, views, depth_error, reach, like):
    """`fuse` with matrices (C, 3, 4), (C, 3, 3), camera centres (C, 3); normals (C, H, W, 3) are the world's.

    `used` (C, H, W) bool, pixels that are not to be asked (any more), is set.
    """
    count, height, width = depths.shape
    limit = depths.size // views.min() + 1
    points, sums = np.empty((limit, 3), np.float32), np.empty((limit, 3), np.float32)
    colours = np.empty((limit, 3), np.uint8)
    waiting = np.empty((MOST * count * count + 1, 3), np.int32)
    members = np.empty((3, MOST * count + 1))
    first, point, normal, colour = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    total = 0
    for start in range(count):
        for row in range(height):
            for column in range(width):
                if used[start, row, column]:
                    continue
                size, queued = 0, 1
                waiting[0, 0], waiting[0, 1], waiting[0, 2] = start, row, column
                while queued > 0:
                    queued -= 1
                    i, y, x = waiting[queued, 0], waiting[queued, 1], waiting[queued, 2]
                    if used[i, y, x]:
                        continue
                    depth = float(depths[i, y, x])
                    if size > 0:
                        m = pixels_from_world[i]
                        w = m[2, 0] * first[0] + m[2, 1] * first[1] + m[2, 2] * first[2] + m[2, 3]
                        u = (m[0, 0] * first[0] + m[0, 1] * first[1] + m[0, 2] * first[2] + m[0, 3]) / w - 0.5 - x
                        v = (m[1, 0] * first[0] + m[1, 1] * first[1] + m[1, 2] * first[2] + m[1, 3]) / w - 0.5 - y
                        cosine = 0.0
                        for k in range(3):
                            cosine += normals[start, row, column, k] * normals[i, y, x, k]
                        if abs(w - depth) > depth_error * w or u * u + v * v > reach or cosine < like:
                            continue
                    used[i, y, x] = True
                    b = world_from_pixels[i]
                    for k in range(3):
                        point[k] = centres[i, k] + depth * (b[k, 0] * (x + 0.5) + b[k, 1] * (y + 0.5) + b[k, 2])
                        place = size  # members stay in order
                        while place > 0 and members[k, place - 1] > point[k]:
                            members[k, place] = members[k, place - 1]
                            place -= 1
                        members[k, place] = point[k]
                        if size == 0:
                            first[k], normal[k], colour[k] = point[k], 0.0, 0.0
                        normal[k] += normals[i, y, x, k]
                        colour[k] += rgb[i, y, x, k]
                    size += 1
                    for j in range(count):
                        if j == i:
                            continue
                        m = pixels_from_world[j]
                        w = m[2, 0] * point[0] + m[2, 1] * point[1] + m[2, 2] * point[2] + m[2, 3]
                        if w <= 0:
                            continue
                        u = (m[0, 0] * point[0] + m[0, 1] * point[1] + m[0, 2] * point[2] + m[0, 3]) / w
                        v = (m[1, 0] * point[0] + m[1, 1] * point[1] + m[1, 2] * point[2] + m[1, 3]) / w
                        if 0 <= u < width and 0 <= v < height and not used[j, int(v), int(u)]:
                            waiting[queued, 0], waiting[queued, 1], waiting[queued, 2] = j, int(v), int(u)
                            queued += 1
                if size >= views[start]:
                    for k in range(3):
                        points[total, k] = (members[k, (size - 1) // 2] + members[k, size // 2]) / 2
                        sums[total, k] = normal[k]
                        colours[total, k] = np.uint8(colour[k] / size + 0.5)
                    total += 1
    return points[:total], sums[:total], colours[:total]
