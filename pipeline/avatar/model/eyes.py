"""Eyes of an avatar: gaze and lids as numbers, and coordinates that turn with the eyeballs."""

import torch
from torch import nn

SIZE = 6  # numbers: yaw and pitch of the left and of the right eye, radians, and both lids' apertures, millimetres
UNITS = (0.2, 0.2, 0.2, 0.2, 4.0, 4.0)  # of these numbers, about as large as they vary
# In radii of what is seen of an eyeball, of five heads of the shipped prior: it lies within 1.03, and lids that are
# shut over it beyond 1.11, since canonical skin is where open lids have it.
BALL, SKIN = 1.05, 1.12
VISIBLE = 0.9  # of an eyeball's radius: as far from its front as it is ever seen, sideways


class EyePose(nn.Module):
    """What is known of eyes: their pose in numbers `eyes` (B, 6), NaN where unknown, which stands for the mean.

    `mean` (6,) over the training data; `eyeballs` (2, 4) centres in canonical head space and radii, head units, the
    left one first, radius zero where unknown. Both are measured once and saved with the weights.
    """

    mean: torch.Tensor
    eyeballs: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(SIZE))
        self.register_buffer("eyeballs", torch.zeros(2, 4))

    def measure(self, eyes: torch.Tensor, eyeballs: torch.Tensor) -> None:
        """Take the statistics of poses (N, 6), and the subject's eyeballs (2, 4); NaN where unknown."""
        self.mean.copy_(eyes.nanmean(0).nan_to_num())
        self.eyeballs.copy_(eyeballs.nan_to_num())

    def known(self, eyes: torch.Tensor) -> torch.Tensor:
        """Poses (B, 6) with the mean in place of what is unknown."""
        return torch.where(eyes.isnan(), self.mean, eyes)

    def code(self, eyes: torch.Tensor) -> torch.Tensor:
        """Poses (B, 6) as a code (B, 6) of about 1, zero at the mean."""
        off = self.known(eyes) - self.mean
        return torch.stack([part / unit for part, unit in zip(off.unbind(-1), UNITS, strict=True)], -1)

    def coordinates(self, x_can: torch.Tensor, eyes: torch.Tensor) -> torch.Tensor:
        """(B, ..., 3) of canonical points (B, ..., 5) under poses (B, 6): where on an eyeball a point lies, in [-1, 1].

        The first two coordinates turn with the gaze, so that an iris is always at the same ones; the left eye's are in
        the half x > 0. The third is how surely the point is an eyeball's: 1 on it, 0 away from it.
        """
        shape = (-1, *[1] * (x_can.ndim - 2))
        left = x_can[..., 0] > 0
        gaze = [[angle.view(shape) for angle in eye.unbind(-1)] for eye in self.known(eyes)[:, :4].split(2, -1)]
        yaw, pitch = (torch.where(left, one, other) for one, other in zip(*gaze, strict=True))
        x, y, z, radius = (torch.where(left, one, other) for one, other in zip(*self.eyeballs, strict=True))
        x, y, z = x_can[..., 0] - x, x_can[..., 1] - y, x_can[..., 2] - z
        length = (x.square() + y.square() + z.square()).sqrt().clamp_min(1e-6)
        aside, ahead = x * yaw.cos() - z * yaw.sin(), x * yaw.sin() + z * yaw.cos()  # turned back by the yaw
        up = y * pitch.cos() - ahead * pitch.sin()  # and by the pitch
        surely = ((SKIN - length / radius.clamp_min(1e-6)) / (SKIN - BALL)).clamp(0, 1) * (ahead > 0)
        u, v = ((part / length / VISIBLE).clamp(-1, 1) for part in (aside, up))
        return torch.stack([torch.where(left, u + 1, u - 1) / 2, v, surely], -1)
