"""The notebook's rater: what Python saves and refuses, and `render` in a browser with a stand-in for the model."""

import base64
import io
import json
import subprocess
import sys

import pytest
from PIL import Image
from test_rater import COUNT, KEY, OTHER, READER, answer_of, count, give, status, train, write_set

from lsn_core.files import InputError
from lsn_core.rater import SCRIPT, STYLE
from lsn_core.rater_widget import rater_widget
from lsn_core.readings import COLUMNS, read_readings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set of 100 images and four training examples."""
    return write_set(tmp_path_factory.mktemp("set") / "set")


def row(k: int, **changes) -> list[str]:
    """The answer to image `k` as the script sends it, with changed values."""
    values = (KEY, READER, str(k), f"{k:03}", *answer_of(k), "1.50", "2026-03-01T12:00:00Z")
    return list((dict(zip(COLUMNS, values, strict=True)) | changes).values())


def send(widget, *rows: list[str]) -> None:
    """What the browser sends after an answer."""
    widget.set_state({"rows": list(rows), "serial": widget.serial + 1})


def test_saves_after_each_answer(tmp_path, folder):
    out = tmp_path / "new" / "ann.csv"
    widget = rater_widget(folder, out, reader=READER)
    assert not out.exists() and widget.rows == []
    for n in (1, 2, 3):
        send(widget, *map(row, range(n)))
        assert [(one.position, one.answer) for one in read_readings(out)] == [(k, answer_of(k)[0]) for k in range(n)]
        assert widget.written == widget.serial == n
    send(widget, row(0), row(1, confidence="5"), row(2))
    assert read_readings(out)[1].confidence == 5
    assert [path.name for path in out.parent.iterdir()] == ["ann.csv"]


def test_resumes_from_the_file(tmp_path, folder):
    out = tmp_path / "ann.csv"
    name = 'Dr. Ann, "B"'
    send(rater_widget(folder, out, reader=name), *(row(k, reader=name) for k in range(37)))
    before = out.read_bytes()
    widget = rater_widget(folder, out, reader=f" {name} ")
    assert widget.rows == [row(k, reader=name) for k in range(37)] and out.read_bytes() == before
    send(widget, *widget.rows, row(37, reader=name))
    assert len(read_readings(out)) == 38 and out.read_bytes().startswith(before)


def test_refuses_the_answers_of_others(tmp_path, folder):
    out = tmp_path / "ann.csv"
    send(rater_widget(folder, out, reader=READER), row(0))
    with pytest.raises(InputError, match=r"holds the answers of ann; choose another file for bob"):
        rater_widget(folder, out, reader="bob")
    other = write_set(tmp_path / "other", count=5, training=0, key=OTHER)
    with pytest.raises(InputError, match=r"holds answers to another set, 01234567; choose another file"):
        rater_widget(other, out, reader=READER)
    send(rater_widget(folder, tmp_path / "moved.csv", reader=READER), row(0, position="7"))
    with pytest.raises(InputError, match="image 000 is not at position 7"):
        rater_widget(folder, tmp_path / "moved.csv", reader=READER)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column"):
        rater_widget(folder, tmp_path / "notes.csv", reader=READER)
    with pytest.raises(InputError, match="give the folder of an assembled set"):
        rater_widget(tmp_path, out, reader=READER)


@pytest.mark.parametrize("reader", ["", " ", "Simulated 1"])
def test_refuses_readers_without_a_name_of_their_own(tmp_path, folder, reader):
    with pytest.raises(InputError, match="give a name or code"):
        rater_widget(folder, tmp_path / "a.csv", reader=reader)


def test_says_where_it_cannot_save(tmp_path, folder):
    (tmp_path / "file").write_text("")
    widget = rater_widget(folder, tmp_path / "file" / "ann.csv", reader=READER)
    send(widget, row(0))
    assert widget.written == 0 and widget.trouble.startswith("Not saved: ") and "cannot be written" in widget.trouble
    (tmp_path / "file").unlink()
    send(widget, row(0))
    assert widget.written == 2 and widget.trouble == ""


def test_carries_a_notice_and_one_image_for_a_page(tmp_path, folder):
    shown, _ = rater_widget(folder, tmp_path / "a.csv", reader=READER)._repr_mimebundle_()
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert shown["text/plain"].startswith("A rater of 100 radiographs") and shown["text/plain"] in shown["text/html"]
    png = base64.b64decode(shown["text/html"].split("base64,")[1].split('"')[0])
    assert Image.open(io.BytesIO(png)).size == (64, 64) and 'alt="radiograph 1 of 100"' in shown["text/html"]


def test_the_page_needs_no_anywidget():
    """Where it is not installed the HTML file is still made, and the widget says what is missing."""
    code = "import sys; sys.modules['anywidget'] = None; import lsn_core.rater; import lsn_core.rater_widget"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "InputError: the notebook's rater needs anywidget" in told


# ---- the script's side

FAKE = """async ([code, style, traits]) => {
    for (const one of [...traits.content.images, ...traits.content.training]) {
        one.png = new DataView(Uint8Array.from(atob(one.png), (letter) => letter.charCodeAt(0)).buffer);
    }
    const listeners = {};
    const model = window.model = {
        traits, saved: 0,
        get: (name) => traits[name],
        set: (name, value) => {
            traits[name] = value;
            for (const tell of listeners["change:" + name] ?? []) tell();
        },
        on: (event, tell) => (listeners[event] ??= []).push(tell),
        off: (event, tell) => { listeners[event] = listeners[event].filter((one) => one !== tell); },
        save_changes: () => { model.saved += 1; },
        heard: () => Object.values(listeners).flat().length,
    };
    const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    document.head.appendChild(document.createElement("style")).textContent = style;
    document.body.innerHTML = "<button id=before>before</button>";
    window.show = async () => {
        const el = document.body.appendChild(document.createElement("div"));
        return module.default.render({ model, el });
    };
    window.end = await window.show();
}"""


def live(page, widget) -> None:
    """The widget's view, in a page with a stand-in for its model."""
    encoded = {
        kind: [one | {"png": base64.b64encode(one["png"]).decode()} for one in widget.content[kind]]
        for kind in ("images", "training")
    }
    traits = {name: getattr(widget, name) for name in ("reader", "path", "rows", "serial", "written", "trouble")}
    page.evaluate(FAKE, [SCRIPT.read_text(encoding="utf-8"), STYLE, traits | {"content": widget.content | encoded}])


def begin(page) -> None:
    page.get_by_role("button", name="Start").click()


def test_the_view_sends_each_answer_and_python_saves_it(page, tmp_path, folder):
    widget = rater_widget(folder, tmp_path / "ann.csv", reader=READER)
    live(page, widget)
    assert "Reader: ann" in page.inner_text(".lsn-rater") and page.locator("input").count() == 0
    begin(page)
    train(page)
    assert page.evaluate("model.saved") == 0, "the training is not saved"
    for k in range(3):
        assert count(page) == f"{k + 1} of 100"
        assert page.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
        give(page, k)
        assert status(page) == f"Saving in {tmp_path / 'ann.csv'} …"
        page.keyboard.press("Enter")
    widget.set_state({name: page.evaluate(f"model.traits.{name}") for name in ("rows", "serial")})
    page.evaluate("n => model.set('written', n)", widget.written)
    assert status(page) == f"Saved in {tmp_path / 'ann.csv'}."
    assert [(one.answer, str(one.confidence)) for one in read_readings(tmp_path / "ann.csv")] == [
        answer_of(k) for k in range(3)
    ]
    page.evaluate("model.set('trouble', 'Not saved: the disk is full')")
    assert status(page) == "Not saved: the disk is full"
    assert not page.complaints and not page.blocked


def test_the_view_resumes_and_ends(page, tmp_path, folder):
    send(rater_widget(folder, tmp_path / "ann.csv", reader=READER), *map(row, range(COUNT - 1)))
    live(page, rater_widget(folder, tmp_path / "ann.csv", reader=READER))
    assert status(page) == "99 of 100 answered by ann."
    page.get_by_role("button", name="Go on where you stopped").click()
    assert count(page) == "100 of 100" and page.get_by_role("button", name="Download CSV").count() == 0
    page.keyboard.press("b")
    assert page.locator(":checked").get_attribute("value") == answer_of(98)[1]
    page.keyboard.press("Enter")
    give(page, 99)
    page.keyboard.press("Enter")
    assert page.get_by_role("heading", name="Thank you").is_visible()
    rows = page.evaluate("model.traits.rows")
    assert len(rows) == COUNT and rows[:98] == [row(k) for k in range(98)], "what was not shown again is as it was"
    assert float(rows[98][6]) > 1.5 and rows[98][7] == row(98)[7]


def test_keys_act_while_the_rater_has_the_focus(page, tmp_path, folder):
    live(page, rater_widget(folder, tmp_path / "ann.csv", reader=READER))
    begin(page)
    train(page)
    page.locator("#before").focus()
    page.keyboard.press("s")
    assert page.locator("[aria-pressed=true]").count() == 0
    page.locator("img").click()
    page.keyboard.press("s")
    assert page.locator("[aria-pressed=true]").count() == 1
    assert page.locator(".lsn-rater").get_attribute("data-lm-suppress-shortcuts") == "true"


def test_two_views_of_one_rater_keep_each_others_answers(page, tmp_path, folder):
    send(rater_widget(folder, tmp_path / "ann.csv", reader=READER), row(0))
    page.set_viewport_size({"width": 1000, "height": 2500})  # else what is not on the screen is paused
    live(page, rater_widget(folder, tmp_path / "ann.csv", reader=READER))
    page.evaluate("window.show()")
    views = page.locator(".lsn-rater").all()
    for view in views:
        view.get_by_role("button", name="Go on").click()
    views[0].locator("img").click()
    give(page, 1)
    page.keyboard.press("Enter")
    give(page, 2)
    views[1].locator("img").click()
    give(page, 1)
    rows = page.evaluate("model.traits.rows")
    assert [one[3] for one in rows] == ["000", "001", "002"]


def test_the_view_lets_go(page, tmp_path, folder):
    live(page, rater_widget(folder, tmp_path / "ann.csv", reader=READER))
    assert page.evaluate("model.heard()") == 2
    page.evaluate("window.end()")
    assert page.evaluate("model.heard()") == 0


def test_what_travels_is_bytes(tmp_path, folder):
    """Text would be a third longer; JupyterLab refuses messages that come too fast."""
    widget = rater_widget(folder, tmp_path / "ann.csv", reader=READER)
    assert all(isinstance(one["png"], bytes) for one in widget.content["images"])
    assert "answer" not in json.dumps([sorted(one) for one in widget.content["images"]])
