"""Contact sheets of every stage, chosen so that few pictures show much; and the one wide sheet for the README."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.evenly import evenly
from pipeline.planning.plan import driver_of
from pipeline.report import tiles
from pipeline.report.material import Material, Shot
from pipeline.store.chunk import read_attributes

METHOD_NAMES = {"avatar": "avatar", "nearest_frame": "nearest frame", "mesh_colour": "mesh colour"}


@dataclass(frozen=True)
class Tile:
    """A picture of the page: `uri` holds its data, `alt` says what it shows to who cannot see it."""

    uri: str
    alt: str
    caption: str


def tile(picture: np.ndarray, caption: str, alt: str) -> Tile:
    """A tile of a picture (h, w, 3) or (h, w) uint8."""
    return Tile(tiles.encode(picture), alt, caption)


def where(shot: Shot) -> str:
    """The shot in words."""
    return f"{shot.sequence}, step {shot.step}, camera {shot.camera}"


def typical_shot(material: Material) -> Shot:
    """The headline shot with the median PSNR of the avatar: neither its best nor its worst picture."""
    if not material.baselines:
        return material.shots[0]
    values = material.headline_psnr()["avatar"]
    return material.shots[int(np.argsort(values, kind="stable")[len(values) // 2])]


def cameras_around(material: Material, shot: Shot, count: int) -> list[str]:
    """Up to `count` cameras from the subject's right to the left, evenly spread over their order."""
    head_from_world = material.head_from_world[shot.sequence][shot.step]
    positions = np.stack([camera.centre for camera in material.rig.cameras]) @ head_from_world[:3, :3].T
    positions += head_from_world[:3, 3]
    order = np.argsort(np.arctan2(positions[:, 0], positions[:, 2]))
    return [material.rig.names[index] for index in order[evenly(len(order), count)]]


def moments(material: Material, camera: str, count: int) -> list[Shot]:
    """Up to `count` shots of one camera, evenly spread over all steps of all sequences."""
    every = [Shot(name, step, camera) for name, reel in material.targets.items() for step in range(reel.steps)]
    return [every[index] for index in evenly(len(every), count)]


def cropped(material: Material, shot: Shot, name: str = "rgb", factor: int = 1) -> np.ndarray:
    """The frame's `rgb` (h, w, 3) or `alpha` (h, w) uint8 as the rig's camera sees it, enlarged `factor` times."""
    source = material.cameras.cameras[material.cameras.index(shot.camera)]
    crop = material.rig.cameras[material.rig.index(shot.camera)]
    return tiles.crop_like(material.frame(shot, name), source, tiles.enlarged(crop, factor))


def mesh_over_frame(material: Material, shot: Shot, factor: int = 2) -> np.ndarray:
    """The fitted mesh, shaded and outlined, over the frame at the rig's crop, (h, w, 3) uint8; `factor` enlarges it."""
    crop = material.rig.cameras[material.rig.index(shot.camera)]
    mask = material.buffer(shot, "mask")
    mesh = tiles.shaded(crop, material.buffer(shot, "normals"), mask)
    size = (crop.width * factor, crop.height * factor)
    mesh, mask = cv2.resize(mesh, size, interpolation=cv2.INTER_LINEAR), cv2.resize(mask.astype(np.float32), size)
    return tiles.overlay(cropped(material, shot, factor=factor), mesh, mask > 0.5)


def cloud_view(material: Material, shot: Shot, kind: str, factor: int = 2) -> np.ndarray:
    """The step's cloud seen by the shot's camera, (h, w, 3) uint8; `kind` "colors" or "normals"."""
    points, normals, colors = material.cloud(shot)
    if kind == "normals":
        colors = tiles.normal_colors(normals, material.head_from_world[shot.sequence][shot.step])
    camera = tiles.enlarged(material.rig.cameras[material.rig.index(shot.camera)], factor)
    return tiles.cloud(camera, points, colors)


def headline(material: Material, shot: Shot) -> list[Tile]:
    """Real, avatar and error of one shot."""
    truth, made = material.target(shot), material.render(shot)
    return [
        tile(truth, "real", f"The real head: {where(shot)}."),
        tile(made, "avatar", f"The avatar in the same moment and view: {where(shot)}."),
        tile(tiles.error_colors(made, truth), "error", f"Where avatar and real head differ: {where(shot)}."),
    ]


def frame_sheet(material: Material, shot: Shot, count: int) -> list[Tile]:
    """Frames of several cameras at one step."""
    shots = [Shot(shot.sequence, shot.step, camera) for camera in cameras_around(material, shot, count)]
    return [tile(material.frame(one), one.camera, f"Input frame: {where(one)}.") for one in shots]


def matte_sheet(material: Material, shot: Shot, count: int) -> list[Tile]:
    """The alpha of the same frames."""
    shots = [Shot(shot.sequence, shot.step, camera) for camera in cameras_around(material, shot, count)]
    return [tile(material.frame(one, "alpha"), "alpha", f"Alpha of the person: {where(one)}.") for one in shots]


def cloud_sheet(material: Material, shot: Shot) -> list[Tile]:
    """The cloud of one step from three sides, in its colours and its normals."""
    shots = [Shot(shot.sequence, shot.step, camera) for camera in cameras_around(material, shot, 3)]
    return [
        tile(cloud_view(material, one, kind), f"{label}, {one.camera}", f"Point cloud {label}: {where(one)}.")
        for kind, label in (("colors", "colours"), ("normals", "normals"))
        for one in shots
    ]


def fit_sheet(material: Material, camera: str, count: int) -> list[Tile]:
    """The fitted mesh over the frames at moments of all sequences."""
    return [
        tile(mesh_over_frame(material, one), f"{one.sequence} {one.step}", f"Fitted mesh over the frame: {where(one)}.")
        for one in moments(material, camera, count)
    ]


def buffer_sheet(material: Material, shot: Shot) -> list[Tile]:
    """Canonical coordinates and normals of the rasterised mesh from three sides."""
    shots = [Shot(shot.sequence, shot.step, camera) for camera in cameras_around(material, shot, 3)]
    head_from_world = material.head_from_world[shot.sequence][shot.step]
    canonical, normals = [], []
    for one in shots:
        mask = material.buffer(one, "mask")
        places = tiles.canonical_colors(material.buffer(one, "x_can"), mask)
        canonical.append(tile(places, f"x_can, {one.camera}", f"Canonical coordinates as colours: {where(one)}."))
        turned = tiles.over_white(tiles.normal_colors(material.buffer(one, "normals"), head_from_world), mask)
        normals.append(tile(turned, f"normals, {one.camera}", f"Normals of the mesh as colours: {where(one)}."))
    return canonical + normals


def target_sheet(material: Material, shot: Shot, count: int) -> list[Tile]:
    """The isolated heads that training learns from, of several cameras."""
    shots = [Shot(shot.sequence, shot.step, camera) for camera in cameras_around(material, shot, count)]
    return [tile(material.target(one), one.camera, f"The head over white: {where(one)}.") for one in shots]


def comparison_rows(material: Material, count: int) -> list[list[Tile]]:
    """Rows of real, avatar, its error and the baselines, for up to `count` headline shots, evenly spread."""
    values = material.headline_psnr()
    rows = []
    for index in evenly(len(material.shots), count):
        shot = material.shots[index]
        made = {"avatar": material.render(shot), **{name: kept[index] for name, kept in material.baselines.items()}}
        row = [tile(material.target(shot), f"real, {shot.sequence} {shot.step}", f"The real head: {where(shot)}.")]
        for name, picture in made.items():
            caption = f"{METHOD_NAMES[name]}, {values[name][index]:.1f} dB"
            row.append(tile(picture, caption, f"{METHOD_NAMES[name].capitalize()}: {where(shot)}."))
        error = tiles.error_colors(made["avatar"], material.target(shot))
        rows.append([*row[:2], tile(error, "avatar's error", f"Error of the avatar: {where(shot)}."), *row[2:]])
    return rows


def driven_rows(pictures: Path, count: int) -> list[dict[str, np.ndarray]]:
    """Two rows of `count` moments of a driven head: the driver above the avatar.

    `pictures` is a driven head's chunk of the render stage; beside it lies its film, with the driver in its right half.
    """
    driver, steps = driver_of(pictures.parent.name), read_attributes(pictures)["stop"]
    with av.open(str(pictures.with_name("capture.mp4"))) as container:
        film = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), steps)]
    chosen = evenly(steps, count)
    avatars, drivers = zip(*(np.split(film[index], 2, axis=1) for index in chosen), strict=True)
    return [
        {f"{driver}, step {index}": picture for index, picture in zip(chosen, drivers, strict=True)},
        {f"avatar, step {index}": picture for index, picture in zip(chosen, avatars, strict=True)},
    ]


def contact_sheet(material: Material, shot: Shot, driven: Path | None = None, factor: int = 2) -> Image.Image:
    """The whole way for one shot: input, alpha, cloud, mesh, canonical, avatar, real; below it a driven film."""
    camera = material.rig.cameras[material.rig.index(shot.camera)]
    mask = material.buffer(shot, "mask")
    columns = {
        "input": cropped(material, shot, factor=factor),
        "alpha": cropped(material, shot, "alpha", factor),
        "point cloud": cloud_view(material, shot, "colors", factor),
        "fitted mesh": mesh_over_frame(material, shot, factor),
        "canonical": tiles.canonical_colors(material.buffer(shot, "x_can"), mask),
        "avatar": material.render(shot),
        "real": material.target(shot),
    }
    rows = [columns, *(driven_rows(driven, len(columns)) if driven else [])]
    return _table(rows, (camera.width * factor, camera.height * factor))


def _table(rows: list[dict[str, np.ndarray]], size: tuple[int, int]) -> Image.Image:
    """Rows of pictures by caption, each brought to `size` (width, height)."""
    gap, band = size[0] // 32, max(size[1] // 12, 14)
    result = Image.new("RGB", ((size[0] + gap) * len(rows[0]) + gap, (size[1] + band + gap) * len(rows)), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(band * 0.62)
    for number, row in enumerate(rows):
        top = number * (size[1] + band + gap)
        for index, (name, picture) in enumerate(row.items()):
            left = gap + index * (size[0] + gap)
            shown = Image.fromarray(picture).convert("RGB").resize(size, Image.Resampling.BICUBIC)
            result.paste(shown, (left, top + band))
            draw.text((left + size[0] // 2, top + band // 2), name, "black", font, anchor="mm")
    return result
