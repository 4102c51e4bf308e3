"""Cases: prepared in parts or at once, they are the same joints; phantoms come clean, as film and drawn again."""

import pytest
import torch

from lsn_core import cases as module
from lsn_core.baseline import harmonic
from lsn_core.batch import stack
from lsn_core.cases import in_chunks, prepare, prepare_phantoms, separate
from lsn_core.motion import COMMANDED_MM
from lsn_core.phantom import drawn, phantoms


def test_parts_are_the_whole(monkeypatch):
    joints = list(phantoms(5, seed=0, size=64))
    whole = stack(joints, size=64, dilate_px=4.0)
    monkeypatch.setattr(module, "CHUNK", 2)
    cases = prepare(iter(joints), size=64, dilate_px=4.0)
    assert len(cases) == 5 and cases.joints == [joint.joint for joint in joints]
    assert [row["name"] for row in cases.known] == [joint.name for joint in joints]
    for name in ("image", "drawn", "wide", "layers"):
        assert torch.equal(getattr(cases.batch, name), getattr(whole, name))
    torch.testing.assert_close(cases.batch.fill, whole.fill, atol=1e-4, rtol=0)
    model = harmonic(size=64)
    torch.testing.assert_close(separate(model, cases), model(whole.image, cases.drawn), atol=1e-3, rtol=0)
    found = in_chunks(lambda image, masks: {"sum": (image * masks[:, :1]).sum(dim=(1, 2, 3))}, whole.image, cases.drawn)
    torch.testing.assert_close(found["sum"], (whole.image * cases.drawn[:, :1]).sum(dim=(1, 2, 3)))


def test_phantoms_clean_as_film_and_drawn_again():
    shown = prepare_phantoms(3, seed=7, size=64, dilate_px=4.0)
    clean, film = shown["clean"], shown["film"]
    assert torch.equal(clean.batch.layers, film.batch.layers) and torch.equal(clean.drawn, film.drawn)
    assert (clean.batch.image - film.batch.image).abs().mean() > 1e-3 and clean.known == film.known
    assert set(clean.rendered) == set(COMMANDED_MM) and film.rendered == {}
    for k, phantom in enumerate(drawn(3, seed=7, size=64)):
        assert clean.spacing_mm == phantom.spacing_mm
        for delta, images in clean.rendered.items():
            assert torch.equal(images[k], phantom.render(phantom.anatomy.jsw_mm + delta).image)
    again = clean.to("cpu")
    assert again.joints == clean.joints and torch.equal(
        again.rendered[COMMANDED_MM[0]], clean.rendered[COMMANDED_MM[0]]
    )


def test_no_gradient_is_kept():
    cases = prepare(phantoms(1, seed=0, size=32), size=32, dilate_px=4.0)
    weight = torch.ones((), requires_grad=True)
    assert not separate(lambda image, masks: weight * image * masks, cases).requires_grad


@pytest.mark.parametrize("count", [1, 3])
def test_an_iterator_is_used_once(count):
    assert len(prepare(phantoms(count, seed=0, size=32), size=32, dilate_px=4.0)) == count
