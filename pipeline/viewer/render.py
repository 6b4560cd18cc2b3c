"""The head under any expression, and the avatar's picture of it for any view, a step of diffusion at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from pipeline.avatar.data.pictures import to_bytes
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.schedule import shared_noise, walk
from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import Picture, crop_round
from pipeline.cameras.resample import placed
from pipeline.head.fit.eyes import lids_of
from pipeline.head.model.identity import Identity
from pipeline.head.model.prior import HeadPrior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.mesh.mesh import Mesh
from pipeline.raster import beyond
from pipeline.raster.fragments import Rasterizer
from pipeline.settings.mesh import MeshSettings

SEED = 0
DRAFT_PIXELS = 144 * 192  # of the largest picture that is rendered while the view moves, the demo's: larger ones wait


@dataclass(frozen=True)
class Head:
    """A subject's head that can take any expression."""

    prior: HeadPrior
    identity: Identity
    settings: MeshSettings

    def mesh(self, z_exp: np.ndarray, head_from_world: np.ndarray, voxel_mm: float | None = None) -> Mesh:
        """The mesh of a code (E,) at a pose (4, 4), coarser than the settings say if `voxel_mm` says so."""
        neck = Plane(self.settings.neck_offset, self.settings.neck_tilt_degrees)
        z_id, code = torch.from_numpy(self.identity.z_id), torch.from_numpy(z_exp.astype(np.float32))
        return mesh_head(self.prior, z_id, code, head_from_world, voxel_mm or self.settings.voxel_mm, neck)

    def lids(self, z_exp: np.ndarray, head_from_world: np.ndarray) -> np.ndarray:
        """How far the lids of both eyes are apart (2,), mm, under a code (E,) at a pose (4, 4); NaN where unknown."""
        found = lids_of(self.prior, self.identity.w_id, z_exp[None].astype(np.float32), head_from_world[None])
        return np.full(2, np.nan, np.float32) if found is None else found[0].astype(np.float32)


def _unit(avatar: Avatar) -> int:
    """Sides of pictures whose latents every level of the networks can halve are multiples of so many pixels."""
    return avatar.autoencoder.factor * 2 ** (len(avatar.unet.config["block_out_channels"]) - 1)


def draft(avatar: Avatar, picture: Picture) -> Picture:
    """The picture that is rendered while a view moves: of the same metres, of DRAFT_PIXELS at most."""
    share = min(1.0, (DRAFT_PIXELS / (picture.width * picture.height)) ** 0.5)
    unit = _unit(avatar)
    width, height = (max(unit, round(share * side / unit) * unit) for side in (picture.width, picture.height))
    return picture if share == 1 else Picture(width, height, picture.metres)


Window = tuple[int, int, int, int]  # left, top, width and height in pixels


def head_window(camera: Camera, vertices: np.ndarray, unit: int, fold: int) -> Window:
    """The part of a picture that a mesh's vertices (V, 3) and the hair that stands off them take up.

    Its sides are multiples of `unit` or the picture's own, its corner's place of `fold`, the pixels that a latent is
    made of.
    """
    pixels, depth = camera.project(vertices)
    whole, margin = np.array([camera.width, camera.height]), beyond.band(camera.height)
    low, high = np.zeros(2), whole
    if (depth > 0).all():
        low, high = (pixels.min(0) - margin).clip(0, whole), (pixels.max(0) + margin).clip(0, whole)
    size = np.minimum(np.ceil((high - low) / unit).clip(1) * unit, whole)
    first = ((low + high - size) / 2).clip(0, whole - size) // fold * fold
    left, top, width, height = np.concatenate([first, size]).astype(int).tolist()
    return left, top, width, height


def from_view(wxyz: np.ndarray, position: np.ndarray, fov: float, width: int, height: int) -> Camera:
    """The camera of a browser's view: its turn as a quaternion, place, field of view (radians, upright)."""
    rotation = Rotation.from_quat(wxyz, scalar_first=True).as_matrix()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ np.asarray(position, float)
    focal = height / 2 / np.tan(fov / 2)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera("view", width, height, intrinsics, pose, np.eye(3))


def refined(
    avatar: Avatar,
    rasterizer: Rasterizer,
    mesh: Mesh,
    z_exp: np.ndarray,
    eyes: np.ndarray,
    view: Camera,
    centre: np.ndarray,
    picture: Picture,
    steps: int,
    whole: bool = True,
) -> Iterator[np.ndarray | None]:
    """Yield None after every step of diffusion but the last, then the view's whole picture (H, W, 3) uint8.

    The avatar renders what a camera sees that is cropped out of the view round `centre` (3,), as large as training
    showed it; unless `whole`, only the part in which the head is. This is put into the view over white. Raises
    DataError where the view does not look at the head.
    """
    (camera,) = crop_round([view], centre, picture).cameras
    steps = 1 if avatar.is_regression else steps
    noise = shared_noise(avatar.latent_shape(picture.height, picture.width), steps, SEED)
    if not whole:
        fold = avatar.autoencoder.factor
        left, top, width, height = head_window(camera, mesh.vertices, _unit(avatar), fold)
        camera = camera.crop(left, top, 1, width, height)
        noise = noise[..., top // fold : (top + height) // fold, left // fold : (left + width) // fold]
    seen = beyond.rasterize(rasterizer, mesh, [camera])
    device = avatar.text.device
    names = ("depth", "normals", "x_can", "mask")
    depth, normals, x_can, mask = (torch.from_numpy(seen[name]).to(device) for name in names)
    code = torch.from_numpy(z_exp.astype(np.float32))[None].to(device)
    pose = torch.from_numpy(eyes)[None].to(device)
    given = Buffers(depth, normals.float(), x_can, mask > 0, code, pose)
    eta = avatar.sampling.eta if steps == avatar.sampling.steps else 0.0
    with torch.inference_mode():
        condition, tokens, colours = avatar.conditions(given)
        base = avatar.base(colours, given.mask)
        noise = noise.to(device)
        walked = walk(lambda x, t: avatar(x, t, base, condition, tokens), noise[:1], steps, eta, noise[1:])
        for step, current in enumerate(walked):
            if step == steps:
                head = to_bytes(avatar.decode(current, base))[0].cpu().numpy()
            elif step:
                yield None
    yield placed(head, camera, view)
