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
from pipeline.raster import buffers
from pipeline.raster.fragments import Rasterizer
from pipeline.settings.mesh import MeshSettings

SEED = 0
DRAFT = 2 / 3  # of the picture's sides while the view moves: less than half of the pixels


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


def draft(avatar: Avatar, picture: Picture) -> Picture:
    """The picture that is drawn while a view moves: of the same metres, in sides that the networks can halve."""
    unit = avatar.autoencoder.factor * 2 ** (len(avatar.unet.config.block_out_channels) - 1)
    width, height = (max(unit, round(DRAFT * side / unit) * unit) for side in (picture.width, picture.height))
    return Picture(width, height, picture.metres)


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
) -> Iterator[np.ndarray | None]:
    """Yield None after every step of diffusion but the last, then the view's whole picture (H, W, 3) uint8.

    The avatar draws what a camera sees that is cropped out of the view round `centre` (3,), as large as training showed
    it; this is put into the view over white. Raises DataError where the view does not look at the head.
    """
    (camera,) = crop_round([view], centre, picture).cameras
    drawn = buffers.draw(rasterizer, mesh, [camera])
    device = avatar.text.device
    names = ("depth", "normals", "x_can", "mask")
    depth, normals, x_can, mask = (torch.from_numpy(drawn[name]).to(device) for name in names)
    code = torch.from_numpy(z_exp.astype(np.float32))[None].to(device)
    pose = torch.from_numpy(eyes)[None].to(device)
    given = Buffers(depth, normals.float(), x_can, mask > 0, code, pose)
    steps = 1 if avatar.is_regression else steps
    eta = avatar.sampling.eta if steps == avatar.sampling.steps else 0.0
    with torch.inference_mode():
        condition, tokens, colours = avatar.conditions(given)
        base = avatar.base(colours, given.mask)
        noise = shared_noise(avatar.latent_shape(picture.height, picture.width), steps, SEED).to(device)
        latents = walk(lambda x, t: avatar(x, t, base, condition, tokens), noise[:1], steps, eta, noise[1:])
        for step, current in enumerate(latents):
            if step == steps:
                head = to_bytes(avatar.decode(current, base))[0].cpu().numpy()
            elif step:
                yield None
    yield placed(head, camera, view)
