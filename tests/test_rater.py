"""The HTML rater, driven in a browser by keys and clicks, and the CSV files that it saves."""

import functools
import http.server
import io
import json
import re
import threading
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lsn_core.files import InputError
from lsn_core.rater import SCRIPT, rater_html, read_set, write_rater
from lsn_core.readings import COLUMNS, Key, as_study, read_readings

KEY, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
NAME = 'Dr. Ann \N{LATIN SMALL LETTER E WITH ACUTE}, "B"'
READER = "ann"
COUNT = 100
DENIED = """Object.defineProperty(window, "localStorage", {
    get() { throw new DOMException("denied", "SecurityError"); },
});"""
SECONDS = "() => document.querySelector('.lsn-rater').rater.mark.seconds"
HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def write_set(folder, *, count=COUNT, training=4, size=64, key=KEY):
    """A set of noise in the form that raters read."""
    generator = np.random.default_rng(0)
    known = {"format": "lsn-turing-1", "key_sha256": key, "positive": "synthetic", "size": size}
    for kind, letter, n in (("images", "", count), ("training", "t", training)):
        (folder / kind).mkdir(parents=True)
        names = [f"{letter}{k:0{3 - len(letter)}}" for k in range(n)]
        known[kind] = [{"name": name, "file": f"{kind}/{name}.png"} for name in names]
        for entry in known[kind]:
            told = PngInfo()
            told.add_text("Source", "a secret of the file")
            pixels = generator.integers(0, 256, (size, size), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / entry["file"], pnginfo=told)
    for k, entry in enumerate(known["training"]):
        entry["answer"] = ("real", "synthetic")[k % 2]
    (folder / "set.json").write_text(json.dumps(known))
    return folder


def answer_of(k: int) -> tuple[str, str]:
    """What the reader of these tests says of image `k`."""
    return ("real", "synthetic")[(k * k + k // 3) % 2], str(1 + k * 3 % 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set of 100 images and four training examples."""
    return write_set(tmp_path_factory.mktemp("set") / "set")


@pytest.fixture(scope="module")
def address(folder):
    """The rater of that set, as a file."""
    return write_rater(folder, folder.parent / "rater.html").as_uri()


@pytest.fixture
def short(tmp_path):
    """The rater of five images without training examples."""
    return write_rater(write_set(tmp_path / "short", count=5, training=0), tmp_path / "short.html").as_uri()


def another(page):
    """Another page of the same browser, after this one was closed; its complaints go where those of the first go."""
    new = page.context.new_page()
    new.blocked, new.complaints = page.blocked, page.complaints
    new.route("http*://**", lambda route: (page.blocked.append(route.request.url), route.abort()))
    new.on("pageerror", lambda error: page.complaints.append(str(error)))
    new.on("console", lambda told: page.complaints.append(told.text) if told.type == "error" else None)
    page.close()
    return new


def start(page, address, *, reader=READER) -> str:
    """Begin as a reader, by keys alone; what the page knew of this reader."""
    page.goto(address)
    page.keyboard.press("Tab")
    page.keyboard.type(reader)
    said = status(page)
    page.keyboard.press("Enter")
    return said


def status(page) -> str:
    return page.locator(".lsn-status").inner_text()


def count(page) -> str:
    return page.locator(".lsn-count").inner_text()


def give(page, k: int) -> None:
    """Answer image `k` by keys of either kind."""
    answer, confidence = answer_of(k)
    keys = {"real": ("r", "ArrowLeft"), "synthetic": ("s", "ArrowRight")}[answer]
    page.keyboard.press(keys[k % 2])
    page.keyboard.press(confidence)


def train(page, n: int = 4) -> None:
    """Through the training examples, to the first image that counts."""
    for _ in range(n):
        page.keyboard.press("r")
        page.keyboard.press("3")
        page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # the training is over


def download(page, path):
    """Download the CSV file and return the name that was offered."""
    with page.expect_download() as waited:
        page.get_by_role("button", name="Download CSV").click()
    waited.value.save_as(path)
    return waited.value.suggested_filename


def frozen(page) -> None:
    """Let time stand still but for `page.clock.run_for`."""
    page.clock.install(time="2026-03-01T12:00:00Z")
    page.clock.pause_at("2026-03-01T12:00:10Z")


# ---- a whole reading


def test_a_hundred_images_interrupted_and_resumed(page, tmp_path, address, folder):
    frozen(page)
    assert start(page, address, reader=NAME) == ""
    train(page)
    for k in range(37):
        assert count(page) == f"{k + 1} of 100"
        page.clock.run_for(1000 + 250 * (k % 7))
        give(page, k)
        page.keyboard.press(("Enter", " ")[k % 2])
    page.clock.run_for(5000)  # of image 37, not answered
    page = another(page)
    assert start(page, address, reader=NAME) == f"37 of 100 answered by {NAME}."
    assert count(page) == "38 of 100", "no training again"
    for k in range(37, COUNT):
        page.clock.run_for(1000 + 250 * (k % 7))
        give(page, k)
        page.keyboard.press("Enter")
    assert "All 100 radiographs are answered" in page.inner_text("main")
    file = tmp_path / "saved.csv"
    assert download(page, file) == f"Dr.-Ann-\N{LATIN SMALL LETTER E WITH ACUTE}-B-_{KEY[:8]}.csv"
    assert file.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    readings = read_readings(file)
    for k, one in enumerate(readings):
        answer, confidence = answer_of(k)
        seconds = 1 + 0.25 * (k % 7)
        assert (one.set, one.reader, one.position, one.image) == (KEY, NAME, k, f"{k:03}")
        assert (one.answer, one.confidence) == (answer, int(confidence))
        assert one.seconds == pytest.approx(seconds + 5 * (k == 37), abs=0.02), k
        assert re.fullmatch(r"2026-03-01T12:0\d:\d\dZ", one.when)
    assert len(readings) == COUNT and all(a.when <= b.when for a, b in pairwise(readings))
    truth = {f"{k:03}": ("real", "synthetic")[k % 2] for k in range(COUNT)}
    right = sum(answer_of(k)[0] == truth[f"{k:03}"] for k in range(COUNT))
    assert as_study(Key(KEY, truth), readings).right.sum() == right
    assert not page.complaints and not page.blocked


def test_back_changes_an_answer_and_adds_its_time(page, tmp_path, short):
    frozen(page)
    start(page, short)
    for k in range(3):
        page.clock.run_for(2000)
        give(page, k)
        page.keyboard.press("Enter")
    for key in ("Backspace", "b"):
        page.clock.run_for(500)
        page.keyboard.press(key)
    assert count(page) == "2 of 5"
    answer, confidence = answer_of(1)
    assert page.locator("[aria-pressed=true]").get_attribute("data-answer") == answer
    assert page.locator(":checked").get_attribute("value") == confidence
    page.keyboard.press("r" if answer == "synthetic" else "s")
    page.clock.run_for(3000)
    page.keyboard.press("Enter")
    assert count(page) == "3 of 5"
    download(page, tmp_path / "saved.csv")
    lines = (tmp_path / "saved.csv").read_text().splitlines()[1:]
    assert [line.split(",")[6] for line in lines] == ["2.00", "5.00", "2.50"]
    assert lines[1].split(",")[4] == ("real" if answer == "synthetic" else "synthetic")
    assert [line.split(",")[7] >= "2026-03-01T12:00:17Z" for line in lines] == [False, True, False]


def test_by_mouse_alone(page, tmp_path, short):
    page.goto(short)
    page.get_by_label("Your name or code").fill(READER)
    page.get_by_role("button", name="Start").click()
    following = page.get_by_role("button", name="Next")
    for k in range(5):
        assert following.is_disabled()
        answer, confidence = answer_of(k)
        page.get_by_role("button", name=answer).click()
        assert following.is_disabled(), "an answer needs a confidence"
        page.get_by_label(confidence, exact=True).check()
        following.click()
    page.get_by_role("button", name="Back to the last").click()
    assert count(page) == "5 of 5" and following.is_enabled()
    following.click()
    download(page, tmp_path / "saved.csv")
    assert [(one.answer, str(one.confidence)) for one in read_readings(tmp_path / "saved.csv")] == [
        answer_of(k) for k in range(5)
    ]
    assert not page.complaints


def test_keys_go_on_after_a_click_on_an_answer(page, short):
    """Enter and Space would press the button again; what is chosen already is left, and the next image comes."""
    start(page, short)
    page.get_by_role("button", name="Synthetic").click()
    page.keyboard.press("Enter")
    assert count(page) == "1 of 5", "without a confidence"
    page.get_by_label("4", exact=True).check()
    page.keyboard.press(" ")
    assert count(page) == "2 of 5"
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on a button that is not chosen yet
    assert page.locator("[aria-pressed=true]").get_attribute("data-answer") == "synthetic" and count(page) == "2 of 5"
    page.keyboard.press("Control+r")  # the browser's own


def test_every_control_is_reached_by_tab(page, short):
    start(page, short)
    give(page, 0)
    page.keyboard.press("Enter")
    give(page, 1)
    seen = []
    for _ in range(7):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.value"))
    assert seen == ["Real R", "Synthetic S", answer_of(1)[1], "Back", "Next", "Pause", "Download CSV"]


# ---- training


def test_training_shows_the_truth_after_the_answer_and_is_not_counted(page, tmp_path, address):
    start(page, address)
    for k, truth in enumerate(("real", "synthetic")):
        assert count(page) == f"Training example, not counted: {k + 1} of 4"
        assert page.locator("img").get_attribute("alt") == f"training radiograph {k + 1} of 4"
        page.keyboard.press("s")
        assert page.inner_text(".lsn-truth") == ""
        page.keyboard.press("2")
        assert page.inner_text(".lsn-truth") == f"This one is {truth}."
        page.keyboard.press("Enter")
    assert status(page) == "" and page.get_by_role("button", name="Download CSV").is_disabled()
    page = another(page)
    assert start(page, address) == "", "interrupted before the first answer"
    train(page)
    assert count(page) == "1 of 100"
    give(page, 0)
    assert page.locator(".lsn-truth").is_hidden() and status(page) == "Saved in this browser."
    download(page, tmp_path / "saved.csv")
    assert [one.image for one in read_readings(tmp_path / "saved.csv")] == ["000"]


def test_the_clock_waits_between_training_and_images(page, address):
    frozen(page)
    start(page, address)
    for _ in range(4):
        page.keyboard.press("r")
        page.keyboard.press("3")
        page.keyboard.press("Enter")
    assert "The training is over" in page.inner_text(".lsn-view") and page.locator("img").is_hidden()
    page.clock.run_for(60_000)
    page.keyboard.press("Enter")
    page.clock.run_for(1500)
    give(page, 0)
    assert page.evaluate(SECONDS) == pytest.approx(1.5, abs=0.02)


# ---- what is kept


class Silent(http.server.SimpleHTTPRequestHandler):
    """A server that says nothing."""

    def log_message(self, *said) -> None:
        pass


@pytest.fixture
def served(short, tmp_path):
    """The short rater from a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/short.html"
        server.shutdown()


def test_a_draft_is_kept_and_readers_do_not_mix(page, served):
    """From a server: `another` would block it, so the page itself is loaded again."""
    start(page, served)
    give(page, 0)
    page.keyboard.press("Enter")
    page.keyboard.press("s")  # no confidence yet
    assert start(page, served, reader="bob") == ""
    assert count(page) == "1 of 5" and page.locator("[aria-pressed=true]").count() == 0
    assert start(page, served) == "1 of 5 answered by ann."
    assert count(page) == "2 of 5"
    assert page.locator("[aria-pressed=true]").get_attribute("data-answer") == "synthetic"
    assert not page.complaints and not page.blocked


def test_an_answer_is_saved_before_next(page, short):
    start(page, short)
    give(page, 0)
    page = another(page)
    assert start(page, short) == "1 of 5 answered by ann." and count(page) == "2 of 5"


def test_sets_do_not_mix(page, tmp_path, short):
    start(page, short)
    give(page, 0)
    other = write_rater(write_set(tmp_path / "other", count=5, training=0, key=OTHER), tmp_path / "other.html")
    page = another(page)
    assert start(page, other.as_uri()) == "" and count(page) == "1 of 5"


def test_two_tabs_of_one_reader_keep_each_others_answers(page, short):
    start(page, short)
    second = page.context.new_page()
    start(second, short)
    give(second, 0)
    second.keyboard.press("Enter")
    second.wait_for_function("document.querySelector('.lsn-count').textContent.startsWith('2')")
    give(second, 1)
    second.wait_for_timeout(300)  # a page behind another may take its time
    give(page, 0)
    third = another(page)
    assert start(third, short) == "2 of 5 answered by ann."


def test_a_finished_reading_is_shown_as_such(page, short):
    start(page, short)
    for k in range(5):
        give(page, k)
        page.keyboard.press("Enter")
    page = another(page)
    assert start(page, short) == "5 of 5 answered by ann."
    assert page.get_by_role("heading", name="Thank you").is_visible()


# ---- where nothing is kept


def test_without_storage_a_csv_file_goes_on(page, tmp_path, short):
    page.add_init_script(DENIED)
    page.goto(short)
    assert "does not let this page save" in page.inner_text("main")
    start(page, short, reader=NAME)
    for k in range(2):
        give(page, k)
        page.keyboard.press("Enter")
    assert status(page).startswith("Not saved in this browser: download the CSV")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.close(run_before_unload=True)
    page.wait_for_timeout(300)
    assert asked == ["beforeunload"] and not page.is_closed()
    download(page, tmp_path / "saved.csv")
    page = another(page)
    page.add_init_script(DENIED)
    page.goto(short)
    page.get_by_label("Or go on from a CSV file").set_input_files(tmp_path / "saved.csv")
    page.get_by_text(f"2 of 5 answered by {NAME}.").wait_for()
    assert page.get_by_label("Your name or code").input_value() == NAME
    page.get_by_role("button", name="Go on where you stopped").click()
    assert count(page) == "3 of 5"
    for k in range(2, 5):
        give(page, k)
        page.keyboard.press("Enter")
    download(page, tmp_path / "all.csv")
    whole, part = read_readings(tmp_path / "all.csv"), read_readings(tmp_path / "saved.csv")
    assert whole[:2] == part and [(one.answer, str(one.confidence)) for one in whole] == [
        answer_of(k) for k in range(5)
    ]
    assert not page.complaints


def csv(**changes) -> str:
    """A file of one answer, with changed values."""
    row = dict(zip(COLUMNS, (KEY, READER, "0", "000", "real", "3", "1.50", "2026-03-01T12:00:00Z"), strict=True))
    return f"{','.join(COLUMNS)}\n{','.join((row | changes).values())}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (csv(set=OTHER), "belongs to another set of images"),
        (csv(reader="bob"), "it is by bob, and the name above is ann"),
        (csv() + csv(reader="bob").splitlines()[1], "holds more than one reader"),
        (csv(image="001"), "line 2 is damaged"),
        (csv(answer="maybe"), "line 2 is damaged"),
        (csv(confidence="6"), "line 2 is damaged"),
        (csv(seconds="-1"), "line 2 is damaged"),
        (csv(when="noon"), "line 2 is damaged"),
        (csv().splitlines()[0], "it holds no answers"),
        (csv().replace("confidence", "sure"), "it does not begin with"),
        ('"set', "not a CSV file"),
        ("", "it does not begin with"),
    ],
)
def test_a_wrong_csv_file_is_refused_in_a_sentence(page, tmp_path, short, text, told):
    (tmp_path / "wrong.csv").write_text(text)
    page.goto(short)
    page.get_by_label("Your name or code").fill(READER)
    page.get_by_label("Or go on from a CSV file").set_input_files(tmp_path / "wrong.csv")
    page.get_by_text("The file was not loaded").wait_for()
    assert told in status(page) and status(page).endswith(".")
    page.get_by_role("button", name="Start").click()
    assert count(page) == "1 of 5" and not page.complaints


def test_a_file_from_a_spreadsheet_is_loaded(page, tmp_path, short):
    (tmp_path / "saved.csv").write_bytes(("\ufeff" + csv().replace("\n", "\r\n")).encode())
    page.goto(short)
    page.get_by_label("Or go on from a CSV file").set_input_files(tmp_path / "saved.csv")
    page.get_by_text("1 of 5 answered by ann.").wait_for()


def test_the_later_of_a_file_and_the_browser_counts(page, tmp_path, short):
    start(page, short)
    give(page, 0)
    for when, answer in (("2020-01-01T00:00:00Z", answer_of(0)[0]), ("2099-01-01T00:00:00Z", "changed")):
        changed = "synthetic" if answer_of(0)[0] == "real" else "real"
        (tmp_path / "saved.csv").write_text(csv(when=when, answer=changed))
        page.goto(short)
        page.get_by_label("Or go on from a CSV file").set_input_files(tmp_path / "saved.csv")
        page.get_by_text("1 of 5 answered by ann.").wait_for()
        now = page.evaluate("document.querySelector('.lsn-rater').rater.marks['000'].answer")
        assert now == (changed if answer == "changed" else answer)


@pytest.mark.parametrize("name", ["", "  ", "Simulated 3"])
def test_a_reader_needs_a_name_of_its_own(page, short, name):
    start(page, short, reader=name)
    assert status(page).startswith(("Give your name", "Names that begin with")) and page.locator("img").count() == 0


# ---- the clock


def test_pause_hides_the_image_and_stops_the_clock(page, short):
    frozen(page)
    start(page, short)
    page.clock.run_for(1000)
    page.keyboard.press("p")
    assert page.locator("img").is_hidden() and page.get_by_text("Paused").is_visible()
    page.clock.run_for(30_000)
    page.keyboard.press("s")  # goes nowhere
    page.keyboard.press("Enter")
    assert page.locator("img").is_visible() and page.locator("[aria-pressed=true]").count() == 0
    page.clock.run_for(500)
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(30_000)
    page.get_by_role("button", name="Continue").click()
    page.clock.run_for(250)
    give(page, 0)
    assert page.evaluate(SECONDS) == pytest.approx(1.75, abs=0.02)


def test_a_hidden_tab_and_an_image_scrolled_away_stop_the_clock(page, short):
    frozen(page)
    start(page, short)
    page.clock.run_for(1000)
    page.evaluate(HIDE, True)
    page.clock.run_for(9000)
    page.evaluate(HIDE, False)
    page.clock.run_for(9000)
    assert page.locator("img").is_hidden(), "until its reader says so"
    page.keyboard.press("p")
    page.evaluate("document.body.style.paddingBottom = '3000px'; scrollTo(0, 2500)")
    page.locator(".lsn-is-paused").wait_for(state="attached")
    page.clock.run_for(9000)
    assert page.evaluate(SECONDS) == pytest.approx(1, abs=0.02)


# ---- what is seen


@pytest.mark.parametrize(("width", "height", "dots"), [(360, 640, 1), (360, 640, 2), (1280, 720, 1), (1440, 900, 1.5)])
def test_pixels_are_whole_screen_dots(browser, tmp_path, short, width, height, dots):
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=dots)
    page = context.new_page()
    start(page, short)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("img").bounding_box()
    times = box["width"] * dots / 64
    assert times == pytest.approx(round(times), abs=0.01) and round(times) * 64 >= 0.7 * min(width, height / 2) * dots
    x, y, side = round(box["x"] * dots), round(box["y"] * dots), 64 * round(times)
    shown = np.array(Image.open(io.BytesIO(page.screenshot())).convert("L"))[y : y + side, x : x + side]
    truth = np.array(Image.open(tmp_path / "short/images/000.png"))
    same = (shown == truth.repeat(round(times), axis=0).repeat(round(times), axis=1)).mean()
    assert same == 1 if dots == round(dots) else same > 0.99, "the last row or column may end between two dots"
    context.close()


def test_the_pixels_are_those_of_the_file(page, short, tmp_path):
    start(page, short)
    values = page.locator("img").evaluate("""async image => {
        await image.decode();
        const context = new OffscreenCanvas(64, 64).getContext("2d");
        context.drawImage(image, 0, 0);
        return [...context.getImageData(0, 0, 64, 64).data].filter((_, i) => i % 4 === 0);
    }""")
    truth = np.array(Image.open(tmp_path / "short/images/000.png"))
    assert (np.array(values).reshape(64, 64) == truth).all()


CONTRAST = """() => {
    const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
        const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (one) => {
        const colour = getComputedStyle(one).backgroundColor;
        return colour.startsWith("rgba") ? ground(one.parentElement) : colour;
    };
    const all = [...document.querySelectorAll("main *")].filter((one) => one.offsetParent && !one.closest(":disabled")
        && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
    return all.map((one) => {
        const [a, b] = [light(getComputedStyle(one).color), light(ground(one))];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
}"""


def test_text_is_legible(page, short):
    page.goto(short)
    ratios = page.evaluate(CONTRAST)
    start(page, short)
    give(page, 0)
    ratios += page.evaluate(CONTRAST)
    assert len(ratios) > 20 and min(ratios) >= 4.5


def test_nothing_tells_what_an_image_is(page, folder, address):
    html = rater_html(folder, title="A <b>title</b>")
    data = json.loads(re.search(r'id="set">(.*?)</script>', html)[1])
    assert all(set(one) == {"name", "png"} for one in data["images"]) and len(data["images"]) == COUNT
    assert all(set(one) == {"name", "png", "answer"} for one in data["training"]) and len(data["training"]) == 4
    assert not re.search(r"https?://|\d\.png|secret", html) and "<b>title" not in html
    assert not any(b"tEXt" in one.png for one in read_set(folder).images)
    start(page, address)
    train(page)
    assert page.locator("img").get_attribute("alt") == "radiograph 1 of 100"
    page.locator("img").evaluate("image => { image.removeAttribute('src'); }")
    assert not re.search("000|t00", page.locator("main").evaluate("main => main.innerHTML"))


def test_the_script_and_python_name_the_same_columns():
    assert json.loads(re.search(r"const COLUMNS = (\[.*?\]);", SCRIPT.read_text())[1]) == list(COLUMNS)


# ---- sets that cannot be read


def changed(folder, **changes):
    """The set with other values in set.json; None takes one out."""
    file = folder / "set.json"
    known = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "lsn-turing-9"}, '"format" is not'),
        ({"key_sha256": "12"}, "64 hexadecimal digits"),
        ({"positive": "real"}, "\"positive\" is 'real'"),
        ({"size": 32}, "8-bit grey PNG of 32 x 32 px"),
        ({"size": None}, '"size" is None'),
        ({"images": []}, "nothing to rate"),
        ({"images": [{"name": "000"}]}, 'must have "name" and "file"'),
        ({"images": [{"name": "fake_0", "file": "images/000.png"}]}, "may tell readers"),
        ({"images": [{"name": "000", "file": "images/000.png"}] * 2}, "several images are named 000"),
        ({"images": [{"name": "000", "file": "images/999.png"}]}, "no such file"),
        ({"images": [{"name": "000", "file": "set.json"}]}, "not a PNG that can be read"),
        ({"training": [{"name": "t00", "file": "training/t00.png"}]}, 'training example t00 has no "answer"'),
    ],
)
def test_refuses_a_wrong_set(tmp_path, changes, told):
    folder = write_set(tmp_path / "set", count=2, training=1)
    changed(folder, **changes)
    with pytest.raises(InputError, match=re.escape(told)) as error:
        read_set(folder)
    assert "; " in str(error.value), "with a remedy"


def test_refuses_what_is_no_set_and_colours(tmp_path):
    with pytest.raises(InputError, match="give the folder of an assembled set"):
        read_set(tmp_path)
    folder = write_set(tmp_path / "set", count=2, training=1)
    Image.new("RGB", (64, 64)).save(folder / "images/000.png")
    with pytest.raises(InputError, match="8-bit grey"):
        read_set(folder)
