"""Clouds of known heads for the tests of fitting: points on the shipped prior's own surface, and a made-up rig."""

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.head.fit.least_squares.residuals import Heads
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior
from pipeline.settings.prior_config import PriorConfig

WEIGHTS = Path(__file__).parents[1] / "pipeline" / "head" / "weights" / "head_prior.safetensors"
SCALE = 4.0


def random_prior(landmarks: int = 0) -> HeadPrior:
    """A random prior in float64: no head, but every term of the derivatives."""
    config = PriorConfig(
        anchors=5, pairs=2, glob=4, loc=3, exp=6, neighbours=3, blend_std=3, global_distance=0.75, local_width=16,
        local_layers=2, anchor_width=8, compressed=4, warp_width=16, warp_layers=3, activation="softplus",
        identity_modes=5, expression_modes=4, box_min=(-0.6, -0.6, -0.6), box_max=(0.6, 0.6, 0.6), landmarks=landmarks,
    )  # fmt: skip
    torch.manual_seed(0)
    result = HeadPrior(config).double()
    for basis in (result.identity.basis, result.expression.basis):
        torch.nn.init.normal_(basis)
    for place in result.landmarks.parameters() if landmarks else ():
        torch.nn.init.normal_(place, std=0.5)
    result.anchor_net.mean.uniform_(-0.4, 0.4)
    return result.requires_grad_(False)


def facing_pose() -> np.ndarray:
    """head_from_world (4, 4) of a head at the origin of the world, y up, facing z."""
    return pose.similarity(np.zeros(3), np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), SCALE)


def rig_in_front(world_from_scene: np.ndarray) -> Rig:
    """Nine cameras 1 m in front of a head at the origin of the scene, in three rows, looking at it."""
    cameras = []
    for elevation in (-0.3, 0.0, 0.3):
        for azimuth in (-0.8, 0.0, 0.8):
            towards = np.array(
                [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
            )
            right = np.cross([0.0, 1, 0], towards)
            right /= np.linalg.norm(right)
            rotation = np.stack([right, -np.cross(towards, right), -towards])
            camera_from_scene = np.eye(4)
            camera_from_scene[:3, :3], camera_from_scene[:3, 3] = rotation, -rotation @ towards
            intrinsics = np.array([[500.0, 0, 128], [0, 500, 192], [0, 0, 1]])
            camera_from_world = camera_from_scene @ np.linalg.inv(world_from_scene)
            cameras.append(Camera(f"{len(cameras)}", 256, 384, intrinsics, camera_from_world, np.zeros((3, 3))))
    return Rig(tuple(cameras))


def cloud(
    prior: HeadPrior,
    identity: np.ndarray,
    expression: np.ndarray,
    head_from_world: np.ndarray,
    count: int,
    seed: int,
    noise_mm: float = 0.0,
    clutter: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals (count, 3), world: the front three quarters of a head's surface, the share `clutter` of them
    replaced by points anywhere about it."""
    rng = np.random.default_rng(seed)
    z_id = prior.z_id_from(torch.as_tensor(identity, dtype=torch.float32))
    z_exp = prior.z_exp_from(torch.as_tensor(expression, dtype=torch.float32))
    low, high = np.array(prior.config.box_min), np.array(prior.config.box_max)
    x = torch.as_tensor(rng.uniform(low, high, (2 * count, 3)), dtype=torch.float32)
    for _ in range(6):
        x = x.detach().requires_grad_()
        sdf = prior.sdf(prior.warp(x, z_id, z_exp), z_id)
        (gradient,) = torch.autograd.grad(sdf.sum(), x)
        normal = gradient / gradient.norm(dim=-1, keepdim=True)
        x = x - 0.9 * (sdf / gradient.norm(dim=-1).clamp(min=0.3)).clamp(-0.1, 0.1)[:, None] * normal
    x, normal, sdf = (tensor.detach().double().numpy() for tensor in (x, normal, sdf))
    seen = (np.abs(sdf) < 2e-3) & (normal[:, 2] > -0.3) & ((x > low) & (x < high)).all(1) & (x[:, 1] > -0.4)
    chosen = rng.choice(np.flatnonzero(seen), count)
    x = x[chosen] + rng.normal(0, noise_mm * SCALE / 1e3, (count, 3))
    normal = normal[chosen]
    stray = rng.random(count) < clutter
    x[stray] = rng.uniform(low, high, (stray.sum(), 3))
    normal[stray] = Rotation.random(stray.sum(), random_state=seed).apply([0, 0, 1.0]) if stray.any() else normal[stray]
    rotation = head_from_world[:3, :3] / SCALE
    return pose.apply(np.linalg.inv(head_from_world), x), normal @ rotation


def posed_landmarks(prior: HeadPrior, heads: Heads) -> np.ndarray:
    """Where the landmarks of heads are, (F, L, 3) world: the points that the backward deformation takes to them."""
    z_id = prior.z_id_from(torch.as_tensor(heads.identity, dtype=torch.float32))
    z_exp = prior.z_exp_from(torch.as_tensor(heads.expression, dtype=torch.float32))
    rest = prior.landmarks_from(torch.as_tensor(heads.identity, dtype=torch.float32))
    x = rest.expand(len(z_exp), -1, -1)
    for _ in range(60):
        x = x - 0.7 * (prior.warp(x, z_id, z_exp)[..., :3] - rest)
    return pose.apply(np.linalg.inv(heads.head_from_world), x.double().numpy())
