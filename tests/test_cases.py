"""Cases: prepared in parts or at once, they are the same joints; phantoms come clean, as film and drawn again."""

from dataclasses import fields, replace

import pytest
import torch

from lsn_core import cases as module
from lsn_core.baseline import harmonic
from lsn_core.batch import stack
from lsn_core.cases import CHUNK, Cases, chunks, facts, in_chunks, prepare, prepare_phantoms, rows_of, separate, wider
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.motion import COMMANDED_MM
from lsn_core.phantom import Phantom, drawn, phantoms


@pytest.fixture(scope="module", name="shown")
def _shown():
    return prepare_phantoms(3, seed=7, size=64, dilate_px=4.0)


@pytest.mark.parametrize("chunk", [1, 2, 5, 9])
def test_parts_are_the_whole(monkeypatch, chunk):
    joints = list(phantoms(5, seed=0, size=64))
    whole = stack(joints, size=64, dilate_px=4.0)
    monkeypatch.setattr(module, "CHUNK", chunk)
    cases = prepare(iter(joints), size=64, dilate_px=4.0)
    assert len(cases) == 5 and cases.joints == [joint.joint for joint in joints] and cases.rendered == {}
    assert cases.known == [{"name": one.name, "joint": one.joint, "finger": one.finger} for one in joints]
    for name in ("image", "drawn", "wide", "nearer", "apart", "layers"):
        assert torch.equal(getattr(cases.batch, name), getattr(whole, name)), name
    torch.testing.assert_close(cases.batch.fill, whole.fill, atol=1e-4, rtol=0)
    model = harmonic(size=64)
    torch.testing.assert_close(separate(model, cases), model(whole.image, whole.drawn.float()), atol=1e-3, rtol=0)


def test_a_model_is_shown_the_masks_as_drawn_and_few_images_at_a_time(monkeypatch):
    """What it finds comes back in the order of the images."""
    monkeypatch.setattr(module, "CHUNK", 2)
    cases = prepare(phantoms(5, seed=0, size=32), size=32, dilate_px=20.0)
    assert (cases.batch.wide != cases.batch.drawn).any() and cases.drawn.dtype == torch.float32
    sizes = []

    def model(image: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        sizes.append(len(image))
        return image * masks

    assert torch.equal(separate(model, cases), cases.batch.image * cases.batch.drawn) and sizes == [2, 2, 1]


def test_no_gradient_is_kept():
    cases = prepare(phantoms(1, seed=0, size=32), size=32, dilate_px=4.0)
    weight = torch.ones((), requires_grad=True)
    assert not separate(lambda image, masks: weight * image * masks, cases).requires_grad


@pytest.mark.parametrize("count", [1, CHUNK, 2 * CHUNK + 3])
def test_measures_in_chunks_are_those_of_all_images(count):
    planes = torch.rand((count, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    masks = (torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(1)) > 0.5).float()
    sizes = []

    def measure(image: torch.Tensor, of: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(len(image))
        return {"sum": (image * of[:, :1]).sum(dim=(1, 2, 3)), "most": image.amax(dim=(1, 2, 3))}

    found, whole = in_chunks(measure, planes, masks), measure(planes, masks)
    assert list(found) == ["sum", "most"] and all(torch.allclose(found[name], whole[name]) for name in whole)
    assert sizes[:-1] == [CHUNK] * (count // CHUNK) + [count % CHUNK] * (count % CHUNK > 0)


def test_chunks_leave_nothing_out_and_draw_no_more_than_they_need():
    joint = Phantom(0, size=16).render()
    joints = [replace(joint, name=str(k)) for k in range(2 * CHUNK + 1)]
    assert [len(some) for some in chunks(joints)] == [CHUNK, CHUNK, 1]
    assert [one.name for some in chunks(iter(joints)) for one in some] == [str(k) for k in range(2 * CHUNK + 1)]
    left = iter(joints)
    next(chunks(left))
    assert next(left).name == str(CHUNK) and list(chunks([])) == []


def test_rows_are_what_is_known_and_the_numbers_of_each():
    known = facts(phantoms(2, seed=0, size=32))
    rows = rows_of(known, {"a": torch.tensor([0.5, 0.25]), "b": torch.tensor([1.0, 2.0])})
    assert rows == [{**known[0], "a": 0.5, "b": 1.0}, {**known[1], "a": 0.25, "b": 2.0}]
    assert list(known[0]) == ["name", "joint", "finger"] and known[0]["finger"] == "thumb"


# --- phantoms --------------------------------------------------------------------------------------------------------


def test_clean_phantoms_and_film_share_all_but_the_radiograph(shown):
    clean, film = shown["clean"], shown["film"]
    assert list(shown) == ["clean", "film"] and clean.known == film.known and len(clean) == len(film) == 3
    for name in ("drawn", "wide", "nearer", "apart", "layers"):
        assert torch.equal(getattr(clean.batch, name), getattr(film.batch, name)), name
    for k, phantom in enumerate(drawn(3, seed=7, size=64)):
        joint = phantom.render()
        assert torch.equal(clean.batch.image[k], joint.image) and torch.equal(clean.batch.layers[k], joint.layers)
        assert torch.equal(clean.drawn[k], joint.masks) and clean.joints[k] == joint.joint
        assert torch.equal(film.batch.image[k], COMPUTED_RADIOGRAPHY.expose(joint, seed=k).image)
        assert 1e-3 < (film.batch.image[k] - joint.image).abs().mean() < 0.1


def test_clean_phantoms_are_drawn_again_at_half_a_millimetre_more_and_less(shown):
    clean = shown["clean"]
    assert set(clean.rendered) == set(COMMANDED_MM) == {-0.5, 0.5} and shown["film"].rendered == {}
    for k, phantom in enumerate(drawn(3, seed=7, size=64)):
        own = phantom.render()
        assert clean.spacing_mm == own.spacing_mm == 21.0 / 64
        for delta, images in clean.rendered.items():
            assert images.shape == clean.batch.image.shape
            assert torch.equal(images[k], phantom.render(own.jsw_mm + delta).image)
            assert torch.equal(wider(phantom, delta), images[k]) and not torch.equal(images[k], own.image)


def test_the_same_on_another_device_is_all_there(shown):
    clean = shown["clean"]
    again, moved = clean.to("cpu"), clean.to("meta")
    assert isinstance(moved, Cases) and (moved.known, moved.spacing_mm) == (clean.known, clean.spacing_mm)
    assert moved.drawn.is_meta and all(image.is_meta for image in moved.rendered.values())
    assert set(moved.rendered) == set(clean.rendered) and again.joints == clean.joints
    for field in fields(clean.batch):
        assert getattr(moved.batch, field.name).is_meta, field.name
        assert torch.equal(getattr(again.batch, field.name), getattr(clean.batch, field.name))
    assert all(torch.equal(again.rendered[delta], clean.rendered[delta]) for delta in COMMANDED_MM)
