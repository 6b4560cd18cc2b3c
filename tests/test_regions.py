"""Eyes and mouth in canonical space: against what the shipped prior moves there, and point by point."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.head.model.prior import load_prior
from pipeline.head.model.regions import ELLIPSES, FRONT, region, region_weights

PRIOR = Path(__file__).parents[1] / "pipeline" / "head" / "weights" / "head_prior.safetensors"
# Places in the shipped prior's z_exp (ICT-FaceKit's order): eyeBlink left and right, mouthRoll lower and upper.
MOVED = [(14, "eyes"), (15, "eyes"), (45, "mouth"), (46, "mouth")]
SPACING, SKIN = 0.015, 0.008  # head units

coordinate = st.floats(-1, 1, width=32)
points = st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def prior():
    return load_prior(PRIOR)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_a_blink_or_the_lips_move_lies_in_the_region(prior, seed):
    z_id = prior.z_id_from(torch.randn(prior.config.identity_modes, generator=torch.Generator().manual_seed(seed)))
    axes = (torch.arange(*ends, SPACING) for ends in ((-0.3, 0.3), (-0.35, 0.3), (0.1, 0.4)))
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    still = prior.warp(grid, z_id, prior.neutral)
    for shape, name in MOVED:
        z_exp = prior.neutral.clone()
        z_exp[shape] = 1
        posed = prior.warp(grid, z_id, z_exp)
        skin = prior.sdf(posed, z_id).abs() < SKIN
        moved = (posed - still)[skin, :3].norm(dim=1)
        inside, most = region(posed[skin], name), moved > 0.5 * moved.max()
        assert inside[most].float().mean() > 0.85
        assert inside.float().mean() < 0.25  # and most of the face is not
        assert not region(posed[skin], {"eyes": "mouth", "mouth": "eyes"}[name])[most].any()


@given(points)
def test_weights_point_by_point(some):
    weights = region_weights(torch.tensor(some), eyes=4.0, mouth=2.0)
    for (x, y, z), weight in zip(some, weights.tolist(), strict=True):
        expected = 1.0
        for ((middle, height), (wide, high)), here in zip(ELLIPSES.values(), (4.0, 2.0), strict=True):
            radius = ((abs(x) - middle) / wide) ** 2 + ((y - height) / high) ** 2
            if abs(radius - 1) < 1e-4:
                return  # on the edge rounding decides
            expected = here if radius < 1 and z > torch.tensor(FRONT) else expected
        assert weight == expected


@given(points)
def test_regions_are_the_same_on_both_sides(some):
    ours = torch.tensor(some)
    for name in ELLIPSES:
        assert torch.equal(region(ours, name), region(ours * torch.tensor([-1.0, 1, 1]), name))


def test_the_background_lies_in_no_region():
    assert region_weights(torch.zeros(2, 3, 4, 5), eyes=9.0, mouth=9.0).eq(1).all()
