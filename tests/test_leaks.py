"""Leaks: what is planted is found, and nothing else; permutation p against scipy's."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy import stats

from lsn_core.files import InputError
from lsn_core.leaks import exchanged, grid, leaking, leaks, report, traces

TRUTH = {f"{k:03d}": "synthetic" if k % 2 else "real" for k in range(40)}


@pytest.fixture(name="planted")
def _planted(tmp_path):
    """Write a set of noise whose synthetic half has something of its own."""

    def write(change=lambda pixels: pixels, **options):
        random = np.random.default_rng(0)
        (tmp_path / "images").mkdir(exist_ok=True)
        for name, answer in TRUTH.items():
            pixels = random.normal(128, 30, (64, 64)).clip(0, 255).astype(np.uint8)
            own = answer == "synthetic"
            Image.fromarray(change(pixels) if own else pixels).save(
                tmp_path / "images" / f"{name}.png", **(options if own else {})
            )
        return leaks(tmp_path, TRUTH, seed=0)

    return write


def test_halves_that_are_alike_leak_nothing(planted):
    found = planted()
    assert set(leaking(found)) <= {"seconds"} and "numbers that tell" in report(found)


def test_what_is_planted_is_found(planted):
    info = PngInfo()
    info.add_text("made", "up")
    assert "chunks" in leaking(planted(pnginfo=info))
    assert {"mean"} <= set(leaking(planted(lambda pixels: (pixels * 0.9).astype(np.uint8))))
    blurred = planted(lambda pixels: ((pixels.astype(int) + np.roll(pixels, 1, 1)) // 2).astype(np.uint8))
    assert {"fine", "bytes"} <= set(leaking(blurred))


def test_blocks_of_a_jpeg_are_a_grid():
    random = np.random.default_rng(0)
    blocks = np.kron(random.normal(0, 20, (8, 8)), np.ones((8, 8))) + random.normal(0, 2, (64, 64))
    assert grid(blocks, 8) > 3 and 0.8 < grid(random.normal(0, 2, (64, 64)), 8) < 1.2


def test_p_is_scipys():
    random = np.random.default_rng(1)
    which = np.arange(30) < 12
    for shift in (0.0, 0.8):
        values = random.normal(size=30) + shift * which
        judge = stats.permutation_test(
            (values[which], values[~which]), lambda a, b: np.mean(a) - np.mean(b), n_resamples=4000, rng=0
        )
        assert exchanged(values, which, seed=0) == pytest.approx(judge.pvalue, abs=0.03)
    assert exchanged(np.ones(5), np.arange(5) < 2, seed=0) == 1.0


def test_a_missing_image(tmp_path):
    with pytest.raises(InputError, match=r"000\.png: no such file"):
        leaks(tmp_path, TRUTH, seed=0)


def test_traces_by_hand(tmp_path):
    pixels = np.zeros((12, 12), np.uint8)
    pixels[:, 6:] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = traces(tmp_path / "a.png")
    assert (found["mean"], found["lowest"], found["highest"], found["levels"]) == (100, 0, 200, 2)
    assert found["grid 6 px"] == pytest.approx(200 / 1e-9) and found["bytes"] == (tmp_path / "a.png").stat().st_size
