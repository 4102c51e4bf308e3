"""The command line: help for everything, and for each bad input one sentence that says what to do about it."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from test_data import ROWS, WRONG_FILES, own_folder, rename
from test_manifest import WRONG_LISTS

from lsn_core.cli import app
from lsn_core.images import read_image

COMMANDS = (
    *("phantom", "data init", "data check", "data pack", "data fetch", "data compare"),
    *("masks", "separate", "adjust", "explore", "synthesize"),
    *("turing assemble", "turing page", "turing score", "turing machine"),
    *("downstream prepare", "downstream train", "downstream baselines", "downstream report"),
    *("train", "train-masks", "ablate", "evaluate", "run", "book", "sweep"),
    *("metrics compare", "metrics keep"),
)
SYNTHESIZE = ("synthesize", "--data", "own", "--out", "out")
LSN = [sys.executable, "-c", "from lsn_core.cli import main; main()"]


def listing(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with what they hold."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(told, *parts: str) -> None:
    """One sentence on stderr that holds these parts, and exit code 1."""
    errors = [line for line in re.split(r"[\n\r]", told.err) if line.startswith("error: ")]
    assert told.code == 1 and len(errors) == 1 and told.err.endswith(errors[0] + "\n"), told
    assert "Traceback" not in told.err and all(re.search(part, errors[0]) for part in parts), errors[0]


@pytest.fixture(name="own")
def _own(tmp_path) -> Path:
    """A small data set of one's own, made to be damaged."""
    return own_folder(tmp_path / "own", ROWS)


# --- help ------------------------------------------------------------------------------------------------------------


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All commands below a group, by the words that call them."""
    for name, command in group.commands.items():
        below = hasattr(command, "commands")
        yield from commands(command, f"{name} ") if below else [(prefix + name, command)]


def test_every_command_and_all_its_words_have_help(lsn):
    found = dict(commands(typer.main.get_command(app)))
    assert sorted(found) == sorted(COMMANDS)
    for words, command in found.items():
        told = lsn(*words.split(), "--help")
        shown = " ".join(told.out.split())
        assert told.code == 0 and not told.err and re.match(rf"Usage: .*lsn {words} ", shown)
        for text in (command.help, *(parameter.help for parameter in command.params)):
            assert len(text.split()) > 2 and " ".join(text.split()) in shown


def test_help_reads_like_a_manual(lsn):
    for words, names in (((), COMMANDS), (("data",), ["data init", "data check", "data pack"])):
        listed = lsn(*words, "--help").out.split("Commands:")[1]
        assert all(re.search(rf"^  {name.split()[len(words)]}  +[A-Z]", listed, re.M) for name in names)
    shown = lsn("--help").out
    assert "not a medical device" in shown and "lsn phantom" in shown
    assert lsn().code == 2 and lsn().err == shown  # without words it helps


def test_unknown_words_are_refused(lsn):
    for words in (
        ("trian",),
        ("train", "x", "--dta", "y"),
        ("train", "x", "--devices", "0"),
        ("phantom", "x", "--count", "0"),
        ("synthesize", "--data", "x", "--out", "y", "--copies", "0"),
        ("synthesize", "--data", "x", "--out", "y", "--plan", "even"),
        ("adjust", "x.png", "--out", "y.png", "--jsw-mm", "99"),
        ("adjust", "x.png", "--out", "y.png", "--jsw-mm", "1", "--spacing-mm", "-0.1"),
    ):
        told = lsn(*words)
        assert told.code == 2 and "Error" in told.err and "Traceback" not in told.err


# --- what the commands do --------------------------------------------------------------------------------------------


def test_from_phantoms_to_layers(lsn, tmp_path):
    """The first visit of the help text, in small."""
    data, run, packed = tmp_path / "phantoms", tmp_path / "run", tmp_path / "all.safetensors"
    assert lsn("phantom", data, "--count", "5", "--size", "32").out == f"{data}/manifest.csv\n"
    assert lsn("data", "check", data).out.endswith("5 of 5 radiographs can be used\n")
    assert lsn("data", "pack", data, packed).out.startswith(f"{packed}: 5 radiographs, 0.0 MB")
    sets = [
        word
        for setting in ("pseudo.epochs=1", "real.epochs=1", "pseudo.switch=0", "size=32", "batch=2")
        for word in ("--set", setting)
    ]
    told = lsn("train", run, "--data", packed, "--profile", "quick", *sets)
    assert told.code == 0 and told.out == f"{run}: trained; measure it with 'lsn evaluate'\n"
    assert json.loads((run / "config.json").read_text())["config"]["mirror"] == 0.5  # of the profile
    told = lsn("evaluate", run, "--data", data)
    assert told.out.splitlines()[-1] == f"written to {run}/metrics_test.json" and "overall" in told.out
    assert {"metrics_test.json", "metrics_test.csv"} <= set(os.listdir(run))
    image = next(data.glob("*index_00001.png"))
    assert lsn("separate", image, "--out", tmp_path / "out", "--weights", run).out.startswith(
        f"{image.stem}: three layers"
    )
    assert read_image(tmp_path / "out" / f"{image.stem}_soft.png").shape == (32, 32)


def test_from_files_to_a_pack(lsn, own, tmp_path):
    """One's own images: listed, checked where they lie or by their list, and packed."""
    for stem in "abc":
        for part in ("lower", "upper"):
            (own / f"{stem}_{part}.png").rename(own / f"{stem}_mask_{part}.png")
    (own / "c_mask_upper.png").unlink()
    told = lsn("data", "init", own, "--force")
    assert told.code == 0 and told.err.startswith(
        "warning: no subject is known, so joints of one person may be in both"
    )
    assert told.out.splitlines()[0] == "2 images with both masks, 2 joints, 0 subjects"
    assert "left out: c.png has no mask_upper\n" in told.out
    for path in (own, own / "manifest.csv"):
        told = lsn("data", "check", path)
        assert told.code == 0 and told.out.endswith("2 of 2 radiographs can be used\n") and not told.err
    told = lsn("data", "pack", own, tmp_path / "own.safetensors")
    assert (told.code, told.out) == (0, f"{tmp_path}/own.safetensors: 2 radiographs, 0.0 MB\n")
    assert not lsn("data", "init", own, "--force", "--subject", "^(.)").err


def test_a_notebook_is_run(lsn, notebook):
    source = notebook("seed = 0", "assert seed == 3")
    told = lsn("run", source, "--out", "out.ipynb", "-p", "seed=3")
    assert (told.code, told.out) == (0, "out.ipynb\n")
    refused(
        lsn("run", source, "--out", "out2.ipynb"), "source.ipynb: cell 2 raised AssertionError", "out2.failed.ipynb"
    )


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [*WRONG_FILES, *WRONG_LISTS])
def test_data_that_cannot_be_used(lsn, own, tmp_path, trained, damage):
    harm, told = (WRONG_FILES | WRONG_LISTS)[damage]
    harm(own)
    if damage in WRONG_FILES:
        rename(own, ",train", ",test")  # so that the damaged file is not the first
    before = listing(tmp_path)
    commands = [
        ("data", "pack", own, tmp_path / "p.safetensors", "--split", "test"),
        ("evaluate", trained, "--data", own, "--out", tmp_path / "m.json"),
        ("data", "check", own, "--split", "test"),
    ]
    for words in commands:
        refused(lsn(*words), told, "; [a-z]")
    assert listing(tmp_path) == before and {path.name for path in tmp_path.iterdir()} == {"own"}


def test_training_data_that_cannot_be_used(lsn, own, tmp_path):
    WRONG_FILES["truncated JPEG"][0](own)
    (own / "a.png").write_bytes((own / "c.jpg").read_bytes())
    told = lsn("train", tmp_path / "run", "--data", own, "--profile", "quick")
    refused(told, r"own/a.png: the image is damaged")
    assert not (tmp_path / "run").exists()


def test_bones_that_cover_the_frame(lsn, own, tmp_path, trained):
    halves = np.zeros((48, 48), dtype=bool)
    halves[:20] = True
    Image.fromarray(np.full((48, 48), 90, dtype=np.uint8)).save(own / "c.png")
    Image.fromarray(halves).save(own / "c_lower.png")
    Image.fromarray(~halves).save(own / "c_upper.png")
    refused(
        lsn("evaluate", trained, "--data", own, "--out", tmp_path / "m.json"), "c: the bones cover the whole frame; "
    )
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "run", "--data", "absent"), "absent: no such folder or file; give the path of a data set"),
        (("train", "run", "--data", "own", "--profile", "quik"), "no profile is called 'quik'; choose one of"),
        (("train", "run", "--data", "own", "--profile", "x.yaml"), "x.yaml: no such file; check the path"),
        (
            ("train", "run", "--data", "own", "--profile", "odd.yaml"),
            "odd.yaml: 'lr' is no training setting; known are",
        ),
        (("train", "run", "--data", "own", "--set", "batch"), "'batch': not of the form key=value; write for example"),
        (("train", "run", "--profile", "quick"), "stage 'pseudo' shows radiographs; name a data set with --data"),
        (("train", "run", "--data", "own", "--set", "bacth=5"), "--set: 'bacth' is no training setting; known are"),
        (("train", "run", "--data", "own", "--set", "batch=x"), "--set: batch is 'x', which is not int; correct it"),
        (("train", "run", "--data", "own", "--set", "size=100"), "size is 100; give a multiple of 32"),
        (("train", "run", "--data", "own", "--resume"), "run: no checkpoint to resume from; train without --resume"),
        (("train", "run", "--resume", "--set", "batch=2"), "--set with --resume: a run keeps its settings; leave"),
        (("evaluate", "run", "--data", "own"), "run: no such weights; give a trained run's folder"),
        (("evaluate", "run", "--data", "own", "--split", "tset"), "own: split 'tset' has no joints; choose one of"),
        (("data", "check", "absent"), "absent: no such folder or file; give"),
        (("data", "pack", "own", "p.safetensors", "--split", "x"), "own: split 'x' has no joints; choose one of"),
        (("data", "pack", "own", "own/p.pt"), "own/p.pt: a packed data set is called NAME.safetensors; give it that"),
        (("data", "init", "own"), "own/manifest.csv: exists already; keep it, or replace it with --force"),
        (("data", "init", "absent"), "absent: no such folder; give the folder that holds"),
        (("phantom", "own"), "own/manifest.csv: exists already; choose another folder, or replace the data with --f"),
        (("separate", "own", "--out", "own"), "own: holds the radiographs; name another folder"),
        (("separate", "own/x_mask_lower.png", "own/x_layer_soft.png", "--out", "out"), "no radiograph there; give im"),
        (("separate", "own/a.png", "--out", "out", "--weights", "absent"), "absent: no such weights; give a"),
        (("masks", "empty"), "empty: no such file; check the path"),
        (("masks", "own/x_mask_lower.png"), "no radiograph there; give images"),
        (("masks", "own", "--outlines", "absent"), "absent: no such weights; give a file, or the shipped 'outlines'"),
        (("adjust", "own/x.png", "--jsw-mm", "1", "--out", "y.png"), "x.png: no such file; check the path"),
        (("adjust", "own/a.png", "--jsw-mm", "1", "--out", "y.jpg"), "y.jpg: name a file that ends in .png"),
        (
            ("adjust", "own/a.png", "--jsw-mm", "1", "--out", "own/a.png"),
            "own/a.png: is the image itself; name another file",
        ),
        (("adjust", "own/a.png", "--jsw-mm", "1", "--out", "y.png", "--degrees", "90"), "by 45 degrees; give less"),
        ((*SYNTHESIZE, "--low-mm", "3", "--high-mm", "1"), "widths from 3.0 to 1.0 mm: give two between -2 and 5, low"),
        ((*SYNTHESIZE, "--plan", "matched"), "plan 'matched' needs the widths to match, as --like FILE; other plans"),
        ((*SYNTHESIZE, "--like", "own/manifest.csv"), "own/manifest.csv: no column jsw_mm; name the column"),
        ((*SYNTHESIZE, "--slide-mm", "nan"), "slide nan: give 0 to 5"),
        ((*SYNTHESIZE, "--degrees", "inf"), "degrees inf: give 0 to 45"),
        ((*SYNTHESIZE, "--split", "tset"), "own: split 'tset' has no joints; choose one of"),
        ((*SYNTHESIZE, "--weights", "absent"), "absent: no such weights; give a trained run's folder"),
        (("synthesize", "--data", "absent", "--out", "out"), "absent: no such folder or file; give the path of"),
        (("synthesize", "--data", "own", "--out", "own"), "own: holds other files; name a new folder"),
        (("synthesize", "--data", "own", "--out", "odd.yaml"), "odd.yaml: holds other files; name a new folder"),
        (("synthesize", "--data", "own", "--out", "source.ipynb/x"), "cannot be written .*; free some space or choose"),
        (("separate", "own/a.png", "own/b.png", "--out", "out", "--lower", "own/a.png"), "--lower and --upper: both"),
        (("run", "absent.ipynb", "--out", "o.ipynb"), "absent.ipynb: no such file; check the path"),
        (
            ("run", "source.ipynb", "--out", "o.ipynb", "-p", "sede=1"),
            "source.ipynb: .* sets 'sede', .*; it declares seed",
        ),
        (
            ("run", "source.ipynb", "--out", "o.ipynb", "-p", "seed=x"),
            "source.ipynb: .* sets 'seed' to 'x', .* not int; ",
        ),
        (("run", "source.ipynb", "--out", "o.ipynb", "-p", "seed"), "'seed': not of the form key=value; write"),
        (("run", "source.ipynb", "--out", "o.ipynb", "--profile", "quik"), "no profile is called 'quik'; choose"),
        (("run", "source.ipynb", "--out", "o.ipynb", "--profile", "odd.yaml"), "odd.yaml sets 'sede', which .*; it"),
    ],
)
def test_words_that_cannot_be_followed(lsn, own, notebook, words, told):
    notebook("seed = 0")  # the current folder is the data's parent
    Path("odd.yaml").write_text("train: {lr: 1.0e-4}\nnotebooks: {source: {sede: 1}}\n")
    before = listing(Path("."))
    refused(lsn(*words), told)
    assert listing(Path(".")) == before and not Path("run").exists() and not Path("out").exists()


def errors(told) -> list[str]:
    """The sentences on stderr, without progress."""
    return [line for line in re.split(r"[\n\r]", told.err) if line.startswith("error: ")]


@pytest.fixture(name="plain")
def _plain(phantom_folder, tmp_path) -> Path:
    """Three phantoms of 64 px with their masks, which nothing lists."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for image in sorted(phantom_folder.glob("phantom_*_0000[0-2].png")):
        for name in (image.name, *(f"{image.stem}_mask_{part}.png" for part in ("lower", "upper"))):
            shutil.copy(phantom_folder / name, folder)
    return folder


def bad_files(folder: Path) -> list[str]:
    """Add two files that cannot be used; the sentences that they earn."""
    good = next(folder.glob("*00000.png"))
    for name, data in (("cut", good.read_bytes()[:300]), ("text", b"hello")):
        (folder / f"{name}.png").write_bytes(data)
        for part in ("lower", "upper"):
            shutil.copy(folder / f"{good.stem}_mask_{part}.png", folder / f"{name}_mask_{part}.png")
    return [rf"{folder}/cut.png: the image is damaged .*; copy it", rf"{folder}/text.png: not an image .*; convert it"]


def test_images_that_cannot_be_separated(lsn, plain, tmp_path):
    """The others are; every refused one is a sentence on stderr, and the last line counts."""
    sentences = bad_files(plain)
    told = lsn("separate", plain, plain / "absent.png", "--out", tmp_path / "out")
    assert told.code == 1 and told.out.splitlines()[-1] == "3 of 6 radiographs separated; 3 refused"
    found = errors(told)
    assert len(found) == 3 and told.err == "".join(f"{line}\n" for line in found)
    for sentence, line in zip((*sentences, "absent.png: no such file; check the path"), found, strict=True):
        assert re.search(sentence, line)
    assert len(listing(tmp_path / "out")) == 9 and len(told.out.splitlines()) == 4


def test_masks_that_are_there_are_kept(lsn, plain):
    before = listing(plain)
    told = lsn("masks", plain)
    *kept, last = told.out.splitlines()
    assert told.code == 0 and not told.err and last == "3 of 3 radiographs have masks" and listing(plain) == before
    assert all(
        line.endswith("has a mask beside it already, which was left as it is; --force draws it again") for line in kept
    )


def test_a_joint_at_another_width(lsn, plain, tmp_path):
    image, out = next(plain.glob("*00001.png")), tmp_path / "new.png"
    asked = ("adjust", image, "--jsw-mm", "0.8", "--out", out)
    refused(lsn(*asked), "has no pixel spacing, so no widths in mm; state it with --spacing-mm")
    refused(lsn(*asked, "--spacing-mm", "5"), "mm wide, which no adult's are; correct the spacing")
    assert not out.exists()
    told = lsn(*asked, "--spacing-mm", str(21 / 64), "--moving", "upper", "--degrees", "-3")
    assert told.code == 0 and not told.err
    assert re.fullmatch(
        rf"{out}: joint space \d.\d\d mm as measured, now 0.80 \(-.*\), SvdH-like class \d -> 3\n", told.out
    )
    assert read_image(out).shape == (64, 64)


def test_a_synthetic_data_set(lsn, phantom_folder, tmp_path):
    """Made, gone on with, not replaced, matched, and packed."""
    out, packed = tmp_path / "new", tmp_path / "packed.safetensors"
    asked = ("synthesize", "--data", phantom_folder, "--split", "test", "--copies", "5")
    for new in (10, 0):
        told = lsn(*asked, "--out", out)
        assert told.code == 0 and not errors(told)
        counts = "class 0: 2, class 1: 2, class 2: 2, class 3: 2, class 4: 2"
        assert told.out == f"{out}: 10 images, {new} of them new; {counts}\n2 of 2 radiographs synthesised\n"
    before = listing(out)
    refused(lsn(*asked, "--out", out, "--seed", "1"), "new: was begun with another plan or other weights; name another")
    assert listing(out) == before
    assert lsn("data", "check", out).out.endswith("10 of 10 radiographs can be used\n")
    told = lsn(*asked, "--out", packed, "--plan", "matched", "--like", out / "labels.csv")
    assert told.code == 0 and told.out.startswith(f"{packed}: 10 images, 10 of them new; ")
    assert lsn("data", "check", packed).out.endswith("10 of 10 radiographs can be used\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "packed.csv", "packed.safetensors"]
    refused(lsn(*asked, "--out", packed), "packed.safetensors: exists already; name another file")


def test_bad_files_among_those_to_synthesise(lsn, plain, tmp_path):
    sentences = bad_files(plain)
    asked = ("synthesize", "--data", plain, "--copies", "2")
    told = lsn(*asked, "--out", tmp_path / "out", "--spacing-mm", str(21 / 64))
    assert told.code == 1 and told.out.endswith("\n3 of 5 radiographs synthesised; 2 refused\n")
    assert all(re.search(*pair) for pair in zip(sentences, errors(told), strict=True))
    assert lsn("data", "check", tmp_path / "out").out.endswith("6 of 6 radiographs can be used\n")
    told = lsn(*asked, "--out", tmp_path / "none")  # each reason, and then that nothing is left
    assert told.code == 1 and len(errors(told)) == 6 and not (tmp_path / "none").exists()
    assert sum("state it with --spacing-mm" in line for line in errors(told)) == 3
    assert errors(told)[-1].endswith("none: none of the radiographs could be used, so nothing was written there")


def test_a_synthesis_that_is_stopped(lsn, plain, tmp_path, monkeypatch):
    """Ctrl-C, as the second image is written."""
    asked = ("synthesize", "--data", plain, "--copies", "2", "--spacing-mm", str(21 / 64), "--out", tmp_path / "out")

    def stopped(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lsn_core.production.write_copy", stopped)
        told = lsn(*asked)
    assert told.code == 130 and "stopped; what is done is whole, and the same command goes on\n" in told.err
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert lsn(*asked).out.startswith(f"{tmp_path}/out: 6 images, 6 of them new; ")


def test_check_lists_every_unusable_file(lsn, own):
    for stem in "bd":
        (own / f"{stem}.png").write_text("x")
    told = lsn("data", "check", own)
    assert told.code == 1 and told.out.endswith("2 of 4 radiographs can be used\n")
    assert [line.split(":")[1].strip() for line in told.err.splitlines()] == [f"{own}/b.png", f"{own}/d.png"]


def test_a_training_that_breaks_down(lsn, phantom_folder, tmp_path):
    sets = [
        word for setting in ("batch=2", "pseudo.lr_generator=1e30", "precision=32-true") for word in ("--set", setting)
    ]
    told = lsn("train", tmp_path / "run", "--data", phantom_folder, "--profile", "quick", *sets)
    refused(
        told, r"the training broke down at step \d: .* is not finite; see broken.json in the run, and lower the rates"
    )
    assert not (tmp_path / "run" / "generator.safetensors").exists()


def test_a_full_disk(own, tmp_path):
    """As the shell sees it: exit code 1, one sentence on stderr, and no half of a file."""
    before = listing(tmp_path)
    done = subprocess.run(
        [*LSN, "data", "pack", str(own), str(tmp_path / "p.safetensors"), "--split", "all"],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and not done.stdout
    reason, remedy = "cannot be written (File too large)", "free some space or choose another folder"
    assert done.stderr == f"error: {tmp_path}/p.safetensors: {reason}; {remedy}\n"
    assert listing(tmp_path) == before
