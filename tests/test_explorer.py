"""The JSW explorer: its pixels in a browser against `recompose`, its controls, and the live widget on both sides."""

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from lsn_core.explorer import SCRIPT, STYLE, explorer_data, explorer_html, show_explorer
from lsn_core.explorer_widget import explorer_widget
from lsn_core.files import InputError
from lsn_core.jsw import SVDH_MM, svdh_like
from lsn_core.movement import Movement, find_hinge
from lsn_core.phantom import Phantom
from lsn_core.synthesis import recompose

LABEL = 'A "test" joint'
REST = Movement()
MOVEMENTS = (
    REST,
    Movement(delta_mm=0.35),
    Movement(delta_mm=3.0, share=1.0),
    Movement(delta_mm=-0.83, share=0.3, slide_mm=(0.41, -0.77), degrees=(3.7, -6.2)),
    Movement(delta_mm=-3.0, share=0.7, slide_mm=(-2.0, 1.3), degrees=(-15.0, 11.5)),
)
RENDERERS = ("webgl2", "2d")


@pytest.fixture(scope="module")
def joint():
    """A phantom small enough to be quick."""
    return Phantom(seed=7, finger="index", size=128).render(jsw_mm=1.5)


def opened(page, tmp_path, html, *, renderer=None):
    """The figure in a page of its own, ready; `renderer` "2d" forces the fallback."""
    forced = html.replace('data-state="loading"', 'data-state="loading" data-renderer="2d"')
    file = tmp_path / "page.html"
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    file.write_text(f"{head}<body>{forced if renderer == '2d' else html}</body></html>", encoding="utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector(".lsn-jsw[data-state=ready]", timeout=10_000)
    figure = page.locator(".lsn-jsw").first
    assert figure.get_attribute("data-renderer") == renderer or renderer is None
    return figure


def levels(figure) -> np.ndarray:
    """What the figure shows, (h, w)."""
    height, width, values = figure.evaluate(
        "f => [f.explorer.joint.height, f.explorer.joint.width, [...f.explorer.levels()]]"
    )
    return np.array(values).reshape(height, width)


def state_of(movement: Movement) -> dict:
    """A movement in the words of the page."""
    slides = dict(zip(("lower_slide_mm", "upper_slide_mm"), movement.slide_mm, strict=True))
    turns = dict(zip(("lower_degrees", "upper_degrees"), movement.degrees, strict=True))
    return {"delta_mm": movement.delta_mm, "share": movement.share, **slides, **turns}


def movement_of(state: dict) -> Movement:
    """What the page says as a movement."""
    slides, turns = (tuple(state[f"{bone}_{what}"] for bone in ("lower", "upper")) for what in ("slide_mm", "degrees"))
    return Movement(state["delta_mm"], state["share"], slides, turns)


def exact(joint, movement: Movement) -> np.ndarray:
    """Python's image in levels, not rounded."""
    hinge = find_hinge(joint.masks[None], spacing_mm=joint.spacing_mm)
    return 255 * recompose(joint.layers[None], joint.masks[None], movement, hinge)[0, 0].numpy()


def expected(joint, movement: Movement) -> np.ndarray:
    """Python's image as it would be saved, in whole levels."""
    return exact(joint, movement).round()


def state(figure) -> dict:
    """What moves the bones now."""
    return figure.evaluate("f => ({...f.explorer.state})")


def set_range(figure, value: float, *, name="delta_mm") -> None:
    """Move a slider as a user does, with its event."""
    move = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }"
    figure.locator(f"input[name={name}]").evaluate(move, str(value))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("renderer", RENDERERS)
def test_pixels_are_those_of_recompose(page, tmp_path, joint, renderer, bits):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL, bits=bits), renderer=renderer)
    whole, worst = 0.0, 0.0
    for movement in MOVEMENTS:
        figure.evaluate("(f, s) => f.explorer.set(s)", state_of(movement))
        seen = levels(figure)
        whole = max(whole, np.abs(seen - expected(joint, movement)).max())
        worst = max(worst, np.abs(seen - exact(joint, movement)).max())
    print(f"{renderer}, {bits} bits: at most {whole:.0f} of 255 from the saved image, {worst:.3f} from the exact one")
    assert whole <= 1 and worst <= (1.25 if bits == 8 else 0.51)  # half a level is the rounding of the picture itself
    assert not page.complaints and not page.blocked


def test_both_renderers_show_the_same(page, tmp_path, joint):
    seen = []
    for renderer in RENDERERS:
        figure = opened(page, tmp_path, explorer_html(joint, label=LABEL), renderer=renderer)
        figure.evaluate("(f, s) => f.explorer.set(s)", state_of(MOVEMENTS[3]))
        seen.append(levels(figure))
    assert np.abs(seen[0] - seen[1]).max() <= 1 and (seen[0] != seen[1]).mean() < 0.001


def test_the_canvas_shows_these_levels(page, tmp_path, joint):
    """Read from a screenshot at one page pixel for each of the picture's."""
    for renderer in RENDERERS:
        figure = opened(page, tmp_path, explorer_html(joint, label=LABEL), renderer=renderer)
        figure.evaluate("f => { f.style.width = '128px'; f.explorer.set({delta_mm: 1}); }")
        truth = levels(figure)
        shot = figure.locator("canvas").screenshot(style="canvas { border-radius: 0 !important }")
        shown = np.array(Image.open(io.BytesIO(shot)).convert("L"))
        assert shown.shape == truth.shape and np.abs(shown.astype(int) - truth).max() <= 1


def test_bones_move_along_a_slanted_axis(page, tmp_path, joint):
    masks = joint.masks.clone()
    masks[2] = masks[2].roll(30, dims=1)  # the upper bone's centroid goes to the right
    slanted = replace(joint, masks=masks)
    figure = opened(page, tmp_path, explorer_html(slanted, label=LABEL))
    set_range(figure, 1.1)
    assert np.abs(levels(figure) - expected(slanted, Movement(delta_mm=1.1))).max() <= 1


def test_keyboard_moves_the_bones(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    slider, output = figure.get_by_label("Joint space width in millimetres"), figure.locator("output")
    page.keyboard.press("Tab")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert output.inner_text() == "2.00 mm (+0.50 mm), SvdH-like class 0"
    assert slider.get_attribute("aria-valuetext") == output.inner_text()
    assert np.abs(levels(figure) - expected(joint, Movement(delta_mm=0.5))).max() <= 1
    for key, delta_mm in (("Home", -3.0), ("End", 3.0)):
        page.keyboard.press(key)
        assert state(figure)["delta_mm"] == delta_mm
    page.keyboard.press("PageDown")
    assert 2 < state(figure)["delta_mm"] < 3


def test_every_control_is_reached_by_keyboard(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    figure.locator("summary").click()
    page.evaluate("document.activeElement.blur()")
    figure.get_by_label("Joint space width in millimetres").focus()
    names = [page.evaluate("document.activeElement.ariaLabel")]
    for _ in range(9):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText"))
        page.keyboard.press("ArrowRight")
    assert "Each bone" in names and page.evaluate("document.activeElement.tagName") == "BUTTON"
    moved = movement_of(state(figure))
    assert moved.slide_mm == (0.05, 0.05) and moved.degrees == (0.5, 0.5)
    values = figure.locator(".lsn-value").all_inner_texts()
    assert values == ["+0.05 mm", "+0.5°", "+0.05 mm", "+0.5°"]
    page.keyboard.press("Enter")  # on Reset
    assert movement_of(state(figure)) == REST


def test_reset_puts_everything_back(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    figure.evaluate("(f, s) => f.explorer.set(s)", state_of(replace(MOVEMENTS[3], share=0.5)))
    figure.get_by_label("upper bone", exact=True).uncheck()
    figure.get_by_role("button", name="Reset").click()
    assert movement_of(state(figure)) == REST and figure.get_by_label("upper bone", exact=True).is_checked()
    assert np.abs(levels(figure) - expected(joint, REST)).max() <= 1


@pytest.mark.parametrize("renderer", RENDERERS)
def test_layers_can_be_taken_away(page, tmp_path, joint, renderer):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL), renderer=renderer)
    for name in ("lower bone", "upper bone"):
        figure.get_by_label(name, exact=True).uncheck()
    assert np.abs(levels(figure) - 255 * joint.layers[0].numpy()).max() < 1
    figure.get_by_label("soft tissue").uncheck()
    assert levels(figure).sum() == 0


def test_the_class_is_that_of_python(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    for delta_mm in (0.3, 0.25, 0.2, -0.15, -0.2, -0.6, -0.65, -1.05, -1.1, -2.0):
        set_range(figure, delta_mm)
        text = figure.locator("output").inner_text()
        assert text.endswith(f"SvdH-like class {svdh_like(joint.jsw_mm + delta_mm)}"), text
    for cut in SVDH_MM:
        figure.evaluate("(f, d) => f.explorer.set({delta_mm: d})", cut - joint.jsw_mm)
        assert figure.locator("output").inner_text().endswith(f"class {svdh_like(cut)}")


def middle_of(figure, joint, channel: int) -> tuple[float, float]:
    """Where on the page a bone can be taken hold of: the middle of its mask in the frame."""
    box = figure.locator("canvas").bounding_box()
    rows, columns = np.nonzero(joint.masks[channel].numpy())
    scale = box["width"] / joint.masks.shape[2]
    return box["x"] + (columns.mean() + 0.5) * scale, box["y"] + (rows.mean() + 0.5) * scale


def check_drag(figure, joint, channel: int, right: float, down: float) -> None:
    """The bone went where the pointer went, (right, down) page px, and the picture is that of its state."""
    by, scale = state(figure), figure.locator("canvas").bounding_box()["width"] / joint.masks.shape[2]
    x, y = find_hinge(joint.masks[None], spacing_mm=joint.spacing_mm).axis
    along = by["delta_mm"] / 2 * (1 if channel == 2 else -1) / joint.spacing_mm
    across = by["upper_slide_mm" if channel == 2 else "lower_slide_mm"] / joint.spacing_mm
    went = (along * x - across * y, along * y + across * x)
    assert went == pytest.approx((right / scale, down / scale), abs=0.02)
    assert by["lower_slide_mm" if channel == 2 else "upper_slide_mm"] == 0
    assert np.abs(levels(figure) - expected(joint, movement_of(by))).max() <= 1


@pytest.mark.parametrize("channel", [1, 2])
def test_a_mouse_drags_a_bone(page, tmp_path, joint, channel):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    x, y = middle_of(figure, joint, channel)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 10, y - 12)
    page.mouse.move(x + 25, y - 31)
    page.mouse.up()
    page.mouse.move(x, y)  # no longer held
    check_drag(figure, joint, channel, 25, -31)
    text = figure.locator("output").inner_text()
    assert text != "1.50 mm (0.00 mm), SvdH-like class 1"


def test_what_is_no_bone_is_not_dragged(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    figure.get_by_label("upper bone", exact=True).uncheck()
    box = figure.locator("canvas").bounding_box()
    for x, y in ((box["x"] + 3, box["y"] + 3), middle_of(figure, joint, 2)):
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 30, y + 30)
        page.mouse.up()
    assert movement_of(state(figure)) == REST


def test_a_drag_ends_where_the_slider_ends(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, reach_mm=0.5, label=LABEL))
    x, y = middle_of(figure, joint, 2)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 900, y - 900)
    page.mouse.up()
    assert state(figure)["delta_mm"] == 0.5 and state(figure)["upper_slide_mm"] == 2


@pytest.fixture
def phone(browser):
    """A page as a phone shows it: narrow, dark, with a touch screen."""
    context = browser.new_context(viewport={"width": 320, "height": 640}, has_touch=True, color_scheme="dark")
    yield context.new_page()
    context.close()


def swipe(page, start: tuple[float, float], right: float, down: float) -> None:
    """One finger that goes down, moves in ten steps and is lifted."""
    session = page.context.new_cdp_session(page)
    for i in range(11):
        points = [{"x": start[0] + right * i / 10, "y": start[1] + down * i / 10}]
        session.send("Input.dispatchTouchEvent", {"type": "touchMove" if i else "touchStart", "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_finger_drags_a_bone_and_scrolls_beside_it(phone, tmp_path, joint):
    figure = opened(phone, tmp_path, explorer_html(joint, label=LABEL) + "<p style='height: 2000px'></p>")
    swipe(phone, middle_of(figure, joint, 1), 12, -20)
    check_drag(figure, joint, 1, 12, -20)
    assert phone.evaluate("scrollY") == 0
    before = state(figure)
    box = figure.locator("canvas").bounding_box()
    swipe(phone, (box["x"] + 6, box["y"] + 150), 0, -100)
    phone.wait_for_function("scrollY > 20")
    assert state(figure) == before


def test_phone_width(phone, tmp_path, joint):
    """The book leaves 256 px of a phone's 320 to an output."""
    figure = opened(phone, tmp_path, f"<div style='width: 256px'>{explorer_html(joint, label=LABEL)}</div>")
    figure.locator("summary").click()
    figure.evaluate("(f, s) => f.explorer.set(s)", state_of(MOVEMENTS[4]))
    assert phone.evaluate("document.documentElement.scrollWidth") <= 320
    assert figure.evaluate("f => f.scrollWidth <= f.clientWidth") and figure.bounding_box()["width"] <= 256


LOSE = "f => f.querySelector('canvas').getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
ABSENT = """const all = HTMLCanvasElement.prototype, real = all.getContext;
all.getContext = function (kind) { return kind === "webgl2" ? null : real.call(this, kind); };"""
BROKEN = "WebGL2RenderingContext.prototype.getProgramParameter = () => false;"


@pytest.mark.parametrize("script", [ABSENT, BROKEN])
def test_without_webgl2_a_canvas_draws(page, tmp_path, joint, script):
    page.add_init_script(script)
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    assert figure.get_attribute("data-renderer") == "2d"
    assert np.abs(levels(figure) - expected(joint, REST)).max() <= 1


def test_a_lost_context_is_replaced(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL), renderer="webgl2")
    set_range(figure, 1.1)
    figure.evaluate(LOSE)
    page.wait_for_selector(".lsn-jsw[data-renderer='2d']")
    assert np.abs(levels(figure) - expected(joint, Movement(delta_mm=1.1))).max() <= 1
    x, y = middle_of(figure, joint, 1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 20)
    assert state(figure)["delta_mm"] > 1.2 and page.get_by_role("img", name=LABEL).count() == 1


@pytest.mark.parametrize("script", ["delete globalThis.DecompressionStream", "globalThis.atob = () => 'not zlib'"])
def test_what_cannot_be_read_leaves_the_still_image(page, tmp_path, joint, script):
    page.add_init_script(script)
    file = tmp_path / "page.html"
    file.write_text(explorer_html(joint, label=LABEL), encoding="utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector(".lsn-jsw[data-state=error]")
    assert page.get_by_alt_text(LABEL).is_visible() and "cannot be moved" in page.inner_text(".lsn-jsw")
    assert page.locator("input, canvas").count() == 0


def test_without_scripts_the_still_image_is_shown(browser, tmp_path, joint):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    file = tmp_path / "still.html"
    file.write_text(explorer_html(joint, label=LABEL), encoding="utf-8")
    page.goto(file.as_uri())
    assert page.get_by_alt_text(LABEL).is_visible() and page.locator("input").count() == 0
    context.close()


def test_two_figures_of_one_joint(page, tmp_path, joint):
    opened(page, tmp_path, explorer_html(joint, label=LABEL) + explorer_html(joint, label=LABEL))
    page.wait_for_function("document.querySelectorAll('.lsn-jsw[data-state=ready]').length == 2")
    names = page.eval_on_selector_all(".lsn-jsw", "all => all.map(one => one.id)")
    assert len(set(names)) == 2
    first, second = page.locator(".lsn-jsw").all()
    set_range(first, 1.0)
    assert state(first)["delta_mm"] == 1.0 and state(second)["delta_mm"] == 0.0


CLOCK = """figure => {
    const times = [];
    for (let i = 0; i < 40; i++) {
        figure.explorer.set({ delta_mm: i / 20 - 1, upper_degrees: i / 4, lower_slide_mm: i / 40 });
        const start = performance.now();
        figure.explorer.frame();
        const gl = figure.querySelector("canvas").getContext("webgl2"); // reading waits for what was drawn
        gl?.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
        times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b)[20];
}"""
SHOWN = """figure => new Promise((done) => {
    const start = performance.now();
    let frames = 0;
    const next = () => {
        figure.explorer.set({ delta_mm: Math.sin(frames / 10), upper_degrees: frames / 10 });
        if (++frames < 60) requestAnimationFrame(next); else done(1000 * frames / (performance.now() - start));
    };
    next();
})"""


@pytest.mark.parametrize("renderer", RENDERERS)
def test_fast_enough_for_60_frames_a_second(page, tmp_path, renderer):
    html = explorer_html(Phantom(seed=1, size=256).render(), label=LABEL)
    assert len(html) < 350_000
    figure = opened(page, tmp_path, html, renderer=renderer)
    milliseconds, shown = figure.evaluate(CLOCK), figure.evaluate(SHOWN)
    print(f"{renderer}: {milliseconds:.1f} ms a frame at 256 px, {shown:.0f} frames a second, {len(html)} bytes")
    assert milliseconds < 16


def test_unknown_jsw_shows_the_change(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(replace(joint, jsw_mm=None), label=LABEL))
    set_range(figure, -0.5)
    assert figure.locator("output").inner_text() == "\N{MINUS SIGN}0.50 mm"
    assert figure.get_by_label("Change of the joint space width in millimetres").count() == 1


def test_overlap_is_negative_and_nothing_has_no_sign(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    set_range(figure, -2)
    assert figure.locator("output").inner_text().startswith("\N{MINUS SIGN}0.50 mm (\N{MINUS SIGN}2.00 mm)")
    figure.evaluate("f => f.explorer.set({delta_mm: -0.001})")
    assert figure.locator("output").inner_text() == "1.50 mm (0.00 mm), SvdH-like class 1"


def test_markup_needs_nothing_from_outside_and_is_no_script_of_its_label(joint):
    html = explorer_html(joint, label=LABEL + "</script><b>")
    assert not re.search(r"https?:", html)
    assert "&quot;test&quot;" in html and html.count("</script>") == 2 and "<b>" not in html


def test_jupyterlab_leaves_the_keys_to_the_inputs(page, tmp_path, joint):
    figure = opened(page, tmp_path, explorer_html(joint, label=LABEL))
    keyed = figure.locator("input, button")
    assert keyed.count() == figure.locator("[data-lm-suppress-shortcuts=true]").count() == 9


def test_shown_with_a_still_image(monkeypatch, joint):
    shown = {}
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.update(bundle))
    show_explorer(joint, label=LABEL)
    still = np.array(Image.open(io.BytesIO(base64.b64decode(shown["image/png"]))))
    assert set(shown) == {"text/html", "image/png", "text/plain"}
    assert np.abs(still - 255 * joint.image[0].numpy()).max() <= 2


@pytest.mark.parametrize("made", [explorer_html, explorer_widget])
def test_refuses_what_cannot_move(joint, made):
    with pytest.raises(InputError, match="spacing"):
        made(replace(joint, spacing_mm=None), label=LABEL)
    with pytest.raises(InputError, match="layers"):
        made(replace(joint, layers=None), label=LABEL)
    with pytest.raises(InputError, match="no mask"):
        made(replace(joint, masks=torch.zeros_like(joint.masks)), label=LABEL)
    with pytest.raises(InputError, match="reach_mm"):
        made(joint, reach_mm=0.0, label=LABEL)
    with pytest.raises(InputError, match="reach_mm"):
        made(joint, reach_mm=float("nan"), label=LABEL)
    with pytest.raises(InputError, match="bits is 12"):
        made(joint, label=LABEL, bits=12)


# ---- the live widget


def test_the_widget_measures_what_it_is_set_to(joint):
    widget = explorer_widget(joint, label=LABEL)
    assert (widget.delta_mm, widget.jsw_mm, widget.svdh_like) == (0.0, 1.5, 1)
    widget.delta_mm = -0.5
    assert (widget.jsw_mm, widget.svdh_like) == (1.0, svdh_like(1.0))
    widget.set_state({"delta_mm": 1, "shown": [True, False, True]})  # what the browser sends
    assert (widget.delta_mm, widget.jsw_mm, widget.svdh_like) == (1.0, 2.5, 0) and widget.shown == [True, False, True]
    with pytest.raises(TraitError, match="read-only"):
        widget.svdh_like = 3


def test_the_widget_of_an_unknown_jsw_has_no_class(joint):
    widget = explorer_widget(replace(joint, jsw_mm=None), label=LABEL)
    widget.delta_mm = 0.5
    assert widget.jsw_mm is None and widget.svdh_like is None


def test_the_widget_keeps_to_its_ends(joint):
    widget = explorer_widget(joint, reach_mm=1.0, label=LABEL)
    widget.delta_mm, widget.upper_degrees, widget.lower_slide_mm, widget.share = 9, -99, 9, 9
    assert (widget.delta_mm, widget.upper_degrees, widget.lower_slide_mm, widget.share) == (1, -15, 2, 1)
    with pytest.raises(TraitError, match="give a number"):
        widget.delta_mm = float("nan")


def test_the_widget_is_linked_to_a_slider(joint):
    widget, slider = explorer_widget(joint, label=LABEL), ipywidgets.FloatSlider(min=-3, max=3)
    ipywidgets.link((slider, "value"), (widget, "delta_mm"))
    slider.value = 0.75
    assert widget.jsw_mm == 2.25
    widget.delta_mm = -0.25
    assert slider.value == -0.25
    assert ipywidgets.jslink((slider, "value"), (widget, "delta_mm")).target == (widget, "delta_mm")


def test_the_widget_carries_the_figure_of_a_page(joint):
    shown, _ = explorer_widget(joint, label=LABEL)._repr_mimebundle_()
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert shown["text/html"].startswith("<figure") and shown["text/plain"] == f"JSW explorer: {LABEL}"
    assert Image.open(io.BytesIO(base64.b64decode(shown["image/png"]))).size == (128, 128)


def test_the_explorer_needs_no_anywidget():
    """Where it is not installed the page's own figure works, and the widget says what is missing."""
    code = "import sys; sys.modules['anywidget'] = None; import lsn_core.explorer; import lsn_core.explorer_widget"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "InputError: the live explorer needs anywidget" in told


FAKE = """async ([code, traits]) => {
    const listeners = {};
    const model = window.model = {
        traits, sent: {}, saved: 0,
        get: (name) => traits[name],
        set: (name, value) => {
            if (JSON.stringify(traits[name]) === JSON.stringify(value)) return;
            traits[name] = model.sent[name] = value;
            for (const tell of listeners["change:" + name] ?? []) tell();
        },
        on: (event, tell) => (listeners[event] ??= []).push(tell),
        off: (event, tell) => { listeners[event] = listeners[event].filter((one) => one !== tell); },
        save_changes: () => { model.saved += 1; },
        heard: () => Object.values(listeners).flat().length,
    };
    const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    const el = document.body.appendChild(document.createElement("div"));
    window.end = await module.default.render({ model, el });
}"""


@pytest.fixture
def live(page, joint):
    """The widget in a browser, with a stand-in for the model that JupyterLab makes of its traits."""
    widget = explorer_widget(joint, label=LABEL)
    widget.delta_mm = 0.5
    traits = {name: getattr(widget, name) for name in widget.keys if not name.startswith("_") and name != "layout"}
    page.set_content(f"<!doctype html><html lang=en><style>{STYLE}</style><body></body></html>")
    page.evaluate(FAKE, [SCRIPT.read_text(encoding="utf-8"), json.loads(json.dumps(traits | {"tabbable": None}))])
    return page.locator(".lsn-jsw")


def test_live_controls_set_the_traits(page, live, joint):
    assert live.locator("output").inner_text() == "2.00 mm (+0.50 mm), SvdH-like class 0"
    assert page.evaluate("[model.saved, Object.keys(model.sent)]") == [0, []]
    set_range(live, -1.0)
    live.get_by_label("soft tissue").uncheck()
    assert page.evaluate("model.sent") == {"delta_mm": -1, "shown": [False, True, True]}
    assert page.evaluate("model.saved") == 2
    x, y = middle_of(live, joint, 2)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y)
    page.mouse.up()
    assert page.evaluate("model.traits.upper_slide_mm") > 0.3
    live.get_by_role("button", name="Reset").click()
    assert page.evaluate("[model.traits.delta_mm, model.traits.upper_slide_mm, model.traits.shown[0]]") == [0, 0, True]
    assert not page.complaints


def test_traits_move_the_live_bones(page, live, joint):
    page.evaluate("traits => Object.entries(traits).forEach(([k, v]) => model.set(k, v))", state_of(MOVEMENTS[3]))
    assert movement_of(state(live)) == MOVEMENTS[3] and page.evaluate("model.saved") == 0
    assert np.abs(levels(live) - expected(joint, MOVEMENTS[3])).max() <= 1
    page.evaluate("model.set('shown', [false, false, false])")
    assert levels(live).sum() == 0 and not live.get_by_label("soft tissue").is_checked()
    page.evaluate("end()")
    assert page.evaluate("model.heard()") == 0


def test_data_of_a_joint_is_json(joint):
    data = explorer_data(joint, reach_mm=1.0, label=LABEL, bits=16)
    assert json.loads(json.dumps(data))["limits"]["delta_mm"] == [1.0, 0.05]
