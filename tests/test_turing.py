"""The set of a visual Turing test: balanced, blind, sealed, and the same again from its seed."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.export import write_phantoms
from lsn_core.files import InputError
from lsn_core.intake import candidates
from lsn_core.leaks import leaking, leaks
from lsn_core.phantom import Phantom
from lsn_core.production import Maker, produce
from lsn_core.readings import read_key
from lsn_core.sampling import Plan
from lsn_core.separation import outliner_of
from lsn_core.turing import Design, as_shown, assemble, windowed

SMALL = Design(real=10, synthetic=10, training=4, size=96, seed=3)


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    """Forty phantoms as film, and two synthetic images of each."""
    folder = tmp_path_factory.mktemp("turing")
    write_phantoms(folder / "real", count=40, size=128, seed=900, detector=COMPUTED_RADIOGRAPHY)
    some = candidates(folder / "real", outliner_of("outlines"), split="all", spacing_mm=None)
    maker = Maker.of("compact", Plan("around", 2), size=None)
    assert sum(produce(folder / "synthetic", some, maker, told=print)) == 80
    return folder / "real", folder / "synthetic"


@pytest.fixture(scope="module")
def assembled(data, tmp_path_factory) -> tuple[Path, Path]:
    """A small set and its key."""
    out = tmp_path_factory.mktemp("set")
    real, synthetic = map(str, data)
    assert len(assemble(real, synthetic, out / "set", out / "key.json", SMALL, split="all")) == 24
    return out / "set", out / "key.json"


def sources(key: Path) -> dict[str, dict]:
    return json.loads(key.read_text())["sources"]


def test_it_is_balanced_and_nobody_is_in_both_halves(assembled):
    _, key = assembled
    truth = read_key(key).truth
    assert Counter(truth.values()) == {"real": 10, "synthetic": 10}
    fingers = Counter((sources(key)[name]["finger"], answer) for name, answer in truth.items())
    assert set(fingers.values()) == {2} and len(fingers) == 10
    joints = [one["joint"] for one in sources(key).values()]
    assert len(set(joints)) == len(joints) == 24  # training examples are of others again
    order = [truth[name] for name in sorted(truth)]
    assert order != sorted(order) and order != sorted(order, reverse=True)


def test_the_set_says_nothing_and_seals_the_key(assembled):
    folder, key = assembled
    told = json.loads((folder / "set.json").read_text())
    assert set(told) == {"format", "key_sha256", "positive", "size", "images", "training"}
    assert told["key_sha256"] == hashlib.sha256(key.read_bytes()).hexdigest() == read_key(key).sha256
    assert [one["name"] for one in told["images"]] == [f"{k:03d}" for k in range(20)]
    assert all(set(one) == {"name", "file"} for one in told["images"])
    assert Counter(one["answer"] for one in told["training"]) == {"real": 2, "synthetic": 2}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"set.json", *(one["file"] for one in (*told["images"], *told["training"]))}


def test_files_are_alike_in_all_but_their_pixels(assembled):
    folder, _ = assembled
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            assert (image.mode, image.size, image.info) == ("L", (96, 96), {})
    assert len({path.stat().st_mtime for path in folder.rglob("*.*")}) == 1


def test_nothing_leaks(assembled):
    folder, key = assembled
    found = leaks(folder, read_key(key).truth, seed=0)
    assert leaking(found) == []


def test_the_seed_decides(data, assembled, tmp_path):
    folder, key = assembled
    for name, design in (("same", SMALL), ("other", replace(SMALL, seed=4))):
        assemble(*map(str, data), tmp_path / name, tmp_path / f"{name}.json", design, split="all")
    same, first = read_key(tmp_path / "same.json"), read_key(key)
    assert pictures(tmp_path / "same") == pictures(folder) and same.truth == first.truth
    assert same.sha256 != first.sha256  # salted: a hash does not confirm a guessed seed
    assert pictures(tmp_path / "other") != pictures(folder)


def test_refusals(data, tmp_path):
    real, synthetic = map(str, data)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").touch()
    (tmp_path / "key.json").touch()
    for out, key, design, told in (
        ("full", "k.json", SMALL, "full: holds other files; name a new folder"),
        ("new", "key.json", SMALL, "key.json: exists already; name another file"),
        ("new", "new/key.json", SMALL, "lies in the set, where a rater finds it"),
        (
            "new",
            "k.json",
            replace(SMALL, real=40),
            "real images are of fingers that both .* and 42 are",
        ),
    ):
        with pytest.raises(InputError, match=told):
            assemble(real, synthetic, tmp_path / out, tmp_path / key, design, split="all")
    assert not (tmp_path / "new").exists() and not (tmp_path / "k.json").exists()
    with pytest.raises(InputError, match="a set needs a real and a synthetic image"):
        Design(real=0)


def test_a_joint_is_shown_smaller_and_its_masks_follow():
    joint = Phantom(seed=3, finger="index", size=128).render()
    both = replace(joint, image=joint.masks[1:2].clone())
    shown = as_shown(both, 96, np.random.default_rng(0))
    assert shown.image.shape == (1, 96, 96) and shown.masks.shape == (3, 96, 96)
    assert ((shown.image[0] > 0.5) == (shown.masks[1] > 0.5)).float().mean() > 0.995
    assert shown.spacing_mm == pytest.approx(joint.spacing_mm * 128 / 96 / 1.12)
    again = as_shown(both, 96, np.random.default_rng(0))
    assert torch.equal(shown.image, again.image)
    assert not torch.equal(shown.image, as_shown(both, 96, np.random.default_rng(1)).image)


def test_too_few_pixels_are_refused():
    with pytest.raises(InputError, match=r"its 96 px are too few to be shown at 96; ask for 76 px or fewer"):
        as_shown(Phantom(seed=3, size=96).render(), 96, np.random.default_rng(0))


def test_windows_and_exposures_are_taken_away():
    image = Phantom(seed=3, size=64).render().image[0].numpy()
    np.testing.assert_allclose(windowed(0.3 + 0.5 * image), windowed(image), atol=1e-5)
    assert windowed(np.full((8, 8), 0.5)).std() == 0
