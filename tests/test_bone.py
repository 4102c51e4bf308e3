"""Bones: path lengths against solids whose geometry is known by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from lsn_core import bone as bone_module
from lsn_core.anatomy import BUILDS, Dice, draw_base, draw_head
from lsn_core.bone import (
    CORTICAL,
    TRABECULAR,
    Base,
    Bone,
    Bump,
    Cortex,
    Erosion,
    Head,
    Ossicle,
    arc,
    bulge,
    chord,
    network_lines,
    outlines,
    ramp,
    rounding,
)
from lsn_core.grain import Grain

DOME = Head(
    half=7.0, height=8.0, back=(1.0, 1.0), neck=0.0, lean=0.0, bumps=(), ridges=(), flatness=0.8
)  # over its height exactly half an ellipsoid
CUP = Base(half=7.0, shaft=3.5, cup=8.0, rims=(0.5, 1.5), lean=0.0, corner=0.3, bumps=(), flatness=0.6)
SHELL = Cortex(plate=0.4, joint=0.3, shaft=1.5, density=1.2, hollow=0.3, condensed=1.0)


def constant(value: float) -> Grain:
    return Grain(torch.full((4, 4), value), 10.0)


NO_LINES = constant(math.sqrt(math.log(3) / 4))  # where the network neither thickens nor thins the bone


def smooth(shape: Head | Base, cortex: Cortex = SHELL, erosions: tuple[Erosion, ...] = ()) -> Bone:
    """A bone without grain."""
    return Bone(shape, cortex, constant(0.0), NO_LINES, erosions)


def plane(step: float = 0.05, *, low: float = -4.0, high: float = 11.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(u, depth) of a grid of points in mm; no point lies on the axis or on a whole depth."""
    u, depth = torch.arange(-9.0 + step / 3, 9.0, step), torch.arange(low + step / 3, high, step)
    return u.expand(len(depth), -1), depth[:, None].expand(-1, len(u))


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_arcs_ramps_and_roundings_by_hand():
    close = torch.testing.assert_close
    close(arc(values(0, 3, -3, 4), 5.0), values(0, 1, 1, 2))  # 3-4-5 triangles
    assert float(arc(values(9.0), 5.0)) == float(arc(values(4.9), 5.0))  # beyond the circle: as at its edge
    close(ramp(values(-9, 2, 3, 4, 5, 6, 99), 2.0, 4.0), values(0, 0, 5 / 32, 0.5, 27 / 32, 1, 1))
    close(rounding(values(-1, 0, 1, 2, 5, 50), 5.0), values(0, 0, 0.6, 0.8, 1, 1))


def test_bumps_add_on_their_own_side():
    bumps = (Bump(-1.0, 3.0, 0.5, 2.0), Bump(1.0, 3.0, 9.0, 2.0), Bump(-1.0, 50.0, -0.25, 1.0))
    added = bulge(bumps, -1.0, values(3, 5, 1, 20, 50))
    torch.testing.assert_close(added, values(0.5, 0.5 / math.e, 0.5 / math.e, 0, -0.25))
    assert torch.equal(bulge((), 1.0, values(3, 5)), values(0, 0))


def test_a_chord_integrates_to_half_an_ellipse():
    area = quad(lambda u: float(chord(values(u), values(3.0), values(2.0))), -3, 3)[0]
    assert area == pytest.approx(math.pi * 3 * 2 / 2, rel=1e-6)
    assert float(chord(values(3.01), values(3.0), values(2.0))) == 0


def test_lines_of_the_network_have_zero_mean_and_unit_variance():
    def moment(k: int) -> float:
        return quad(lambda x: float(network_lines(torch.tensor(x, dtype=torch.float64))) ** k * norm.pdf(x), -9, 9)[0]

    assert moment(1) == pytest.approx(0, abs=1e-7) and moment(2) == pytest.approx(1, rel=1e-6)


@given(seed=st.integers(0, 10**6), finger=st.sampled_from(list(BUILDS)), base=st.booleans())
def test_looked_up_outlines_are_those_of_the_shape(seed, finger, base):
    """But within 0.3 mm of a top, where they are steeper than a table can follow."""
    shape = (draw_base if base else draw_head)(Dice(seed), BUILDS[finger], 1.0)
    depth = torch.linspace(-7, 20, 1013, dtype=torch.float64)[:, None].expand(-1, 2)
    top = -max(shape.rims) - 1.2 if base else 0.0
    away = (depth - top).abs() > 0.3
    u = torch.tensor([-1.0, 1.0], dtype=torch.float64).expand(1013, 2)
    sides = [shape.widths(side, depth[:, 0]) for side in (-1.0, 1.0)]
    for looked_up, left, right in zip(outlines(shape.widths, u, depth), *sides, strict=True):
        missed = (looked_up - torch.stack((left, right), dim=1)).abs()[away]
        assert missed.max() < 0.01 and (missed > 2e-3).double().mean() < 0.01  # mm; the few are where an outline kinks


def test_an_outline_beyond_the_table_ends_as_the_table_does():
    depth = torch.tensor([[-100.0, 100.0]])
    (width,) = outlines(lambda _, depths: (depths,), torch.ones_like(depth), depth)
    assert width[0, 0] == -8 and width[0, 1] == pytest.approx(24, abs=0.02)


def test_a_dome_is_half_an_ellipsoid():
    u, depth = plane(high=8.0)
    path = DOME.thickness(u, depth, 0.0, 0.0)
    inside = 1 - (u / DOME.half) ** 2 - ((DOME.height - depth) / DOME.height) ** 2
    expected = 2 * DOME.flatness * DOME.half * inside.clamp_min(0).sqrt() * (depth > 0)
    within = depth > 0.1  # below the steepest part of the outline
    assert (path**2 - expected**2)[within].abs().max() < 0.005 * expected.max() ** 2  # squares: no steep edge
    volume = float(path.sum()) * 0.05**2
    assert volume == pytest.approx(2 / 3 * math.pi * 7.0 * 8.0 * (0.8 * 7.0), rel=2e-3)


def test_a_plate_and_an_inset_lie_inside():
    """A dome under a plate is the same dome deeper down; what is inset from the sides is narrower."""
    u, depth = plane()
    torch.testing.assert_close(
        DOME.thickness(u, depth, 0.0, 0.75), DOME.thickness(u, depth - 0.75, 0.0, 0.0), atol=1e-4, rtol=0
    )
    for shape in (DOME, CUP):
        outer, inner = shape.thickness(u, depth, 0.0, 0.0), shape.thickness(u, depth, 0.5, 0.0)
        assert (inner <= outer + 1e-5).all()
        assert float((outer - inner > 0)[outer > 0].float().mean()) > 0.8
        width = [float(((path > 0) & (depth > 6)).any(dim=0).sum()) * 0.05 for path in (outer, inner)]
        assert 0.2 < width[0] - width[1] < 1.3


def test_a_drawn_head_ends_where_its_surface_says():
    """Over the central half that faces the base, the mean of outline and surface agree: JSW is reckoned from it."""
    depth = torch.linspace(0, 4, 8001, dtype=torch.float64)
    for seed in range(40):
        head = draw_head(Dice(seed), list(BUILDS.values())[seed % 5], 1.0)
        across = np.linspace(0.01, head.half / 2, 100)
        missed = []
        for side in (-1.0, 1.0):
            width = torch.stack(head.widths(side, depth)).amax(dim=0).cummax(dim=0).values
            outline = depth[torch.searchsorted(width, torch.from_numpy(across)).clamp_max(8000)]
            missed.append(outline - head.surface(torch.from_numpy(side * across)))
        assert abs(float(torch.cat(missed).mean())) < 0.002


@given(seed=st.integers(0, 10**6), finger=st.sampled_from(list(BUILDS)))
def test_the_contour_is_where_bone_begins(seed, finger):
    """On both sides, bumps and all, before the condyles may overhang."""
    head = draw_head(Dice(seed), BUILDS[finger], 1.0)
    places, depths = head.contour()
    u = torch.linspace(-0.6, 0.6, 61)[None, :] * head.half
    top = torch.from_numpy(np.interp(u[0], places, depths)).float()[None, :]
    above, below = (head.thickness(u, top + step, 0.0, 0.0) for step in (-0.01, 0.01))
    assert (above == 0).all() and (below > 0).all()


def test_asymmetry_widens_the_right_and_narrows_the_left():
    head, base = replace(DOME, lean=0.1), replace(CUP, lean=0.1)
    deep = values(7.0)
    for plain, lean in ((DOME, head), (CUP, base)):
        (middle,), (left,), (right,) = (
            plain.widths(1.0, deep)[-1],
            lean.widths(-1.0, deep)[-1],
            lean.widths(1.0, deep)[-1],
        )
        assert float(left / middle) == pytest.approx(0.9) and float(right / middle) == pytest.approx(1.1)


def test_the_back_and_the_neck_narrow_below_the_dome():
    head = replace(DOME, back=(0.6, 0.8), neck=0.25)
    (back_left, front_left), (back_right, front_right) = (head.widths(side, values(0.5, 18)) for side in (-1.0, 1.0))
    assert torch.equal(front_left, front_right)
    torch.testing.assert_close(back_left[0], front_left[0])  # none at the top
    torch.testing.assert_close(front_left[1], values(7 * 0.75)[0])
    torch.testing.assert_close(back_left[1] / front_left[1], values(0.6)[0])
    torch.testing.assert_close(back_right[1] / front_right[1], values(0.8)[0])


def test_rims_reach_below_the_cup_each_with_its_own_half():
    u, depth = plane()
    path, under = CUP.thickness(u, depth, 0.0, 0.0), CUP.under(u, depth)
    assert (path[under < -1.5] == 0).all() and (path[(under > -1.4) & (under < 0) & (u.abs() < 1)] > 0).all()
    column = path[:, u[0].abs().argmin()]
    rising = column[(depth[:, 0] > -1.5) & (depth[:, 0] < 2)]
    assert (rising.diff() > -1e-5).all()  # ever thicker through the rims to the cup
    volar_only = replace(CUP, rims=(1e-3, 1.5)).thickness(u, depth, 0.0, 0.0)
    torch.testing.assert_close(path[under < -0.51], volar_only[under < -0.51])  # beyond the dorsal rim
    swapped = replace(CUP, rims=(1.5, 0.5)).thickness(u, depth, 0.0, 0.0)
    torch.testing.assert_close(path, swapped)  # X-rays do not tell front from back
    above = under > 0.01
    torch.testing.assert_close(path[above], volar_only[above])


def test_a_rim_that_has_sunk_away_leaves_a_sharp_cup():
    base = replace(CUP, rims=(0.0, 0.0))
    depth = torch.arange(-40, 41)[:, None] / 20  # 0 is among them
    path = base.thickness(torch.zeros_like(depth), depth, 0.0, 0.0)
    assert path.isfinite().all() and (path[depth < -0.01] == 0).all() and (path[depth > 0.01] > 1).all()


@given(u=st.floats(-0.97, 0.97), depth=st.floats(-5, 15))
def test_what_lies_under_a_cup_is_counted_from_its_circle(u, depth):
    """`under` is 0 on the circle that the cup is cut with."""
    across = values(u * CUP.cup)
    circle = math.sqrt(CUP.cup**2 - float(across) ** 2) - CUP.cup  # 0 on the axis, towards the wrist beside it
    assert float(CUP.under(across, values(circle))) == pytest.approx(0, abs=1e-9)
    assert float(CUP.under(across, values(depth)) - CUP.under(across, values(depth - 1))) == pytest.approx(1)


def test_the_cortex_thickens_and_the_core_thins_into_the_shaft():
    assert SHELL.side(values(0, 30)).tolist() == pytest.approx([SHELL.joint, SHELL.shaft])
    at_joint, shaft = SHELL.filling(values(0, 60)).tolist()
    assert at_joint == pytest.approx(1.2 * (1 + 1.0)) and shaft == pytest.approx(1.2 * 0.3)
    assert float(SHELL.filling(values(-3))) == at_joint  # nothing blows up above the surface
    between = torch.linspace(0, 30, 50)
    assert (SHELL.side(between).diff() >= 0).all() and (SHELL.filling(between).diff() <= 1e-6).all()


@pytest.mark.parametrize("shape", [DOME, CUP])
def test_a_bone_is_a_shell_around_a_core(shape):
    u, depth = plane()
    outer = shape.thickness(u, depth, 0.0, 0.0)
    core = smooth(shape, replace(SHELL, plate=0.0, joint=0.0, shaft=0.0)).absorbance(u, depth)
    torch.testing.assert_close(core, TRABECULAR * outer * SHELL.filling(shape.under(u, depth)), atol=1e-6, rtol=1e-5)
    solid = smooth(shape, replace(SHELL, plate=90.0, joint=90.0, shaft=90.0)).absorbance(u, depth)
    torch.testing.assert_close(solid, CORTICAL * outer, atol=1e-6, rtol=1e-5)
    ordinary = smooth(shape).absorbance(u, depth)
    assert (ordinary <= CORTICAL * outer + 1e-5).all()  # no core is denser than cortex, no cortex thicker than the bone
    thicker = smooth(shape, replace(SHELL, plate=0.6, joint=0.6, shaft=1.9)).absorbance(u, depth)
    assert (thicker >= ordinary - 1e-5).all() and float((thicker - ordinary).mean()) > 0.001
    sparser = smooth(shape, replace(SHELL, density=0.6)).absorbance(u, depth)
    assert (sparser <= ordinary + 1e-6).all() and float((ordinary - sparser).mean()) > 0.001


def test_no_core_outgrows_its_bone():
    """Not even where the bone narrows faster than its shell is thick."""
    head, (u, depth) = replace(DOME, neck=0.6, back=(0.4, 0.4)), plane()
    thin = replace(SHELL, plate=1.5, joint=0.0, shaft=0.0)
    core = TRABECULAR * head.thickness(u, depth, 0.0, 0.0) * thin.filling(head.under(u, depth))
    assert (smooth(head, thin).absorbance(u, depth) >= core - 1e-5).all()


@given(seed=st.integers(0, 10**6), finger=st.sampled_from(list(BUILDS)), base=st.booleans())
def test_a_drawn_bone_absorbs_within_its_outline_only(seed, finger, base):
    dice = Dice(seed)
    shape = (draw_base if base else draw_head)(dice, BUILDS[finger], 1.0)
    noise = Grain(torch.randn(32, 32, generator=dice.generator), 8.0)
    bone = Bone(shape, SHELL, noise, noise, (Erosion(shape.half * 0.9, 3.0, 2.0),))
    u, depth = plane(0.2)
    absorbed, outer = bone.absorbance(u, depth), shape.thickness(u, depth, 0.0, 0.0)
    assert absorbed.isfinite().all() and (absorbed >= 0).all()
    assert torch.equal(absorbed > 0, outer > 0)


def test_rows_that_hold_no_bone_are_left_out_and_cost_nothing(monkeypatch):
    """Drawn alone or among other rows, a row is the same."""
    bone = smooth(CUP)
    u, depth = plane(0.25, low=-12.0)
    whole = bone.absorbance(u, depth)
    alone = torch.cat([bone.absorbance(u[k : k + 1], depth[k : k + 1]) for k in range(len(u))])
    torch.testing.assert_close(whole, alone)
    assert (whole[depth < -3] == 0).all() and (whole > 0).any()
    monkeypatch.setattr(bone_module, "chord", None)  # would fail if any path were reckoned
    assert not bone.absorbance(u[:4], depth[:4]).any()


def test_an_erosion_leaves_a_third():
    bite = Erosion(u=2.0, depth=3.0, radius=1.5)
    ray = torch.linspace(0, 4, 200, dtype=torch.float64)
    left = bite.left(2.0 + ray * 0.6, 3.0 + ray * 0.8)
    assert left[0] == pytest.approx(0.35) and (left.diff() >= 0).all()
    assert left[ray < 0.75].max() < 0.7 and left[ray > 1.5].min() > 0.9 and left[ray > 2].min() == 1
    u, depth = plane()
    whole, eaten = smooth(DOME).absorbance(u, depth), smooth(DOME, erosions=(bite,)).absorbance(u, depth)
    torch.testing.assert_close(eaten, whole * bite.left(u, depth))
    twice = smooth(DOME, erosions=(bite, Erosion(-4.0, 4.0, 1.0))).absorbance(u, depth)
    assert torch.equal(twice > 0, whole > 0) and float(twice.sum()) < float(eaten.sum()) < float(whole.sum())


def test_grain_is_relative_never_negative_and_turns_from_network_to_strands():
    strong, none = constant(8.0), constant(0.0)
    u, depth = values(1.0)[None].float(), values(0.0)[None].float()
    deep = depth + 20
    only_strands = Bone(DOME, SHELL, strong, NO_LINES)
    assert float(only_strands.grain(u, deep)) > float(only_strands.grain(u, depth)) > 1
    only_network = Bone(DOME, SHELL, none, constant(0.0))  # everywhere on a line
    assert float(only_network.grain(u, depth)) > float(only_network.grain(u, deep)) > 1
    assert float(smooth(DOME).grain(u, depth)) == pytest.approx(1, abs=1e-6)
    assert 0 < float(Bone(DOME, SHELL, constant(-50.0), NO_LINES).grain(u, deep)) < 0.2


def test_an_ossicle_is_an_ellipsoid_in_a_shell():
    centre, half = (1.0, -2.0), (2.0, 3.0)
    plain = Ossicle(centre, half, 0.0, 1.0)
    u, v = plane(low=-8.0, high=8.0)
    core = plain.absorbance(u, v, constant(0.0)) / TRABECULAR
    inside = 1 - ((u - 1) / 2) ** 2 - ((v + 2) / 3) ** 2
    behind = float(core.max()) / 2  # half its thickness
    torch.testing.assert_close(core, 2 * behind * inside.clamp_min(0).sqrt(), atol=5e-3, rtol=5e-3)
    assert float(core.sum()) * 0.05**2 == pytest.approx(4 / 3 * math.pi * 2 * 3 * behind, rel=2e-3)
    assert 0.5 * 2 < behind <= 2  # no thicker than it is wide
    shelled = replace(plain, shell=0.3).absorbance(u, v, constant(0.0))
    assert torch.equal(shelled > 0, core > 0) and (shelled >= TRABECULAR * core - 1e-6).all()
    rim = (core > 0) & (inside < (0.3 / 2) ** 2)
    torch.testing.assert_close(shelled[rim], CORTICAL * core[rim])  # nothing but shell at the margin
