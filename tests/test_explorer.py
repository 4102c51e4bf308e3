"""The JSW explorer: its markup, and in a browser its pixels against `adjust_jsw`."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lsn_core.explorer import explorer_html, show_explorer
from lsn_core.files import InputError
from lsn_core.phantom import Phantom
from lsn_core.radiograph import adjust_jsw

LABEL = 'A "test" joint'


@pytest.fixture(scope="module")
def joint():
    """A phantom small enough to be quick."""
    return Phantom(seed=7, finger="index", size=128).render(jsw_mm=1.5)


def opened(page, tmp_path, html):
    """The figure in a page of its own, ready."""
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><html lang=en><body>{html}</body></html>", encoding="utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector(".lsn-jsw[data-state=ready]", timeout=10_000)
    return page.locator(".lsn-jsw").first


def painted(page) -> np.ndarray:
    """The canvas as levels, (h, w)."""
    read = "c => [c.height, c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]"
    height, width, values = page.eval_on_selector(".lsn-jsw canvas", read)
    return np.array(values).reshape(height, width, 4)[..., 0]


def expected(joint, delta_mm: float) -> np.ndarray:
    """Python's image in levels, not rounded."""
    image = adjust_jsw(joint.layers[None], joint.masks[None], delta_mm, spacing_mm=joint.spacing_mm)
    return 255 * image[0, 0].numpy()


def set_range(page, value: float) -> None:
    """Move the slider as a user does, with its event."""
    move = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }"
    page.eval_on_selector(".lsn-jsw input[type=range]", move, str(value))


def test_pixels_are_those_of_adjust_jsw(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    for delta_mm in (0, 0.35, -0.8, 3, -3):
        set_range(page, delta_mm)
        levels, truth = painted(page), expected(joint, delta_mm)
        assert np.abs(levels - truth).max() <= 1  # of 255
        assert int(figure.get_attribute("data-sum")) == levels.sum()
        assert levels.sum() == pytest.approx(truth.round().sum(), rel=1e-4)
    assert not page.complaints and not page.blocked


def test_bones_move_along_a_slanted_axis(page, tmp_path, joint):
    masks = joint.masks.clone()
    masks[2] = masks[2].roll(30, dims=1)  # the upper bone's centroid goes to the right
    slanted = replace(joint, masks=masks)
    opened(page, tmp_path, explorer_html(slanted, label=LABEL))
    set_range(page, 1.1)
    assert np.abs(painted(page) - expected(slanted, 1.1)).max() <= 1


def test_keyboard_moves_the_bones(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    before = figure.get_attribute("data-sum")
    page.keyboard.press("Tab")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert figure.locator("output").inner_text() == "2.00 mm (+0.50 mm)"
    assert figure.locator("input[type=range]").get_attribute("aria-valuetext") == "2.00 mm (+0.50 mm)"
    assert figure.get_attribute("data-sum") != before
    assert int(figure.get_attribute("data-sum")) == pytest.approx(expected(joint, 0.5).sum(), rel=1e-4)


def test_layers_can_be_taken_away(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    for name in ("lower bone", "upper bone"):
        figure.get_by_label(name).uncheck()
    assert np.abs(painted(page) - 255 * joint.layers[0].numpy()).max() < 1
    figure.get_by_label("soft tissue").uncheck()
    assert figure.get_attribute("data-sum") == "0"


def test_two_figures_of_one_joint(page, tmp_path, joint):
    opened(page, tmp_path, explorer_html(joint, label=LABEL) + explorer_html(joint, label=LABEL))
    page.wait_for_function("document.querySelectorAll('.lsn-jsw[data-state=ready]').length == 2")
    names = page.eval_on_selector_all(".lsn-jsw", "all => all.map(one => one.id)")
    assert len(set(names)) == 2


def test_fast_enough_for_a_slider(page, tmp_path):
    opened(page, tmp_path, explorer_html(Phantom(seed=1, size=256).render(), label=LABEL))
    clock = """range => {
        const times = [];
        for (let i = 0; i < 40; i++) {
            const start = performance.now();
            range.value = i / 20;
            range.dispatchEvent(new Event('input', {bubbles: true}));
            times.push(performance.now() - start);
        }
        return times.sort((a, b) => a - b)[20];
    }"""
    assert page.eval_on_selector(".lsn-jsw input[type=range]", clock) < 16  # ms, one frame


def test_phone_width(browser, tmp_path, joint):
    context = browser.new_context(viewport={"width": 320, "height": 640}, color_scheme="dark")
    opened(context.new_page(), tmp_path, explorer_html(joint, label=LABEL))
    assert context.pages[0].evaluate("document.documentElement.scrollWidth") <= 320
    context.close()


def test_without_scripts_the_still_image_is_shown(browser, tmp_path, joint):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    file = tmp_path / "still.html"
    file.write_text(explorer_html(joint, label=LABEL), encoding="utf-8")
    page.goto(file.as_uri())
    assert page.get_by_alt_text(LABEL).is_visible()
    context.close()


def test_unknown_jsw_shows_the_change(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(replace(joint, jsw_mm=None), label=LABEL))
    set_range(page, -0.5)
    assert figure.locator("output").inner_text() == "\N{MINUS SIGN}0.50 mm"


def test_markup_needs_nothing_from_outside(joint):
    html = explorer_html(joint, label=LABEL)
    assert not re.search(r"(src|href)=.?https?:", html)
    assert "&quot;test&quot;" in html and 'type="module"' in html


def test_jupyterlab_leaves_the_keys_to_the_inputs(joint):
    html = explorer_html(joint, label=LABEL)
    assert html.count("<input") == html.count('data-lm-suppress-shortcuts="true"') == 4


def test_shown_with_a_still_image(monkeypatch, joint):
    shown = {}
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.update(bundle))
    show_explorer(joint, label=LABEL)
    still = np.array(Image.open(io.BytesIO(base64.b64decode(shown["image/png"]))))
    assert set(shown) == {"text/html", "image/png", "text/plain"}
    assert np.abs(still - 255 * joint.image[0].numpy()).max() <= 2


def test_refuses_what_cannot_move(joint):
    with pytest.raises(InputError, match="spacing"):
        explorer_html(replace(joint, spacing_mm=None), label=LABEL)
    with pytest.raises(InputError, match="layers"):
        explorer_html(replace(joint, layers=None), label=LABEL)
    with pytest.raises(InputError, match="reach_mm"):
        explorer_html(joint, reach_mm=0.0, label=LABEL)
