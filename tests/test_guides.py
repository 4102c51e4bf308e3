"""Guides stay true: their Python runs, and every command and option in their shell lines exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from lsn_core.cli import app

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "book/guides").glob("*.md"))
NUMBER = re.compile(r"-[\d.]+")
PAGES = [*GUIDES, *sorted((ROOT / "book").glob("*.md")), ROOT / "README.md"]


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def lines(path: Path) -> list[str]:
    """The calls of `lsn` in a page's shell blocks."""
    text = "\n".join(blocks(path, "bash")).replace("\\\n", " ")
    return [line.partition(" #")[0] for line in text.splitlines() if line.startswith("lsn ")]


def unknown(line: str) -> list[str]:
    """The words of a call that are neither a command nor an option where they stand."""
    command, odd = typer.main.get_command(app), []
    for word in shlex.split(line)[1:]:
        if hasattr(command, "commands"):
            if word not in command.commands:
                return [word]
            command = command.commands[word]
        elif word.startswith("-"):
            known = {name for option in command.params for name in option.opts}
            odd += [] if word.partition("=")[0] in {*known, "--help"} or NUMBER.fullmatch(word) else [word]
    return odd


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_code_of_a_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict = {"__name__": page.stem}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), space)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_exist(page):
    assert [(line, unknown(line)) for line in lines(page) if unknown(line)] == []


def test_there_is_something_to_check():
    assert sum(len(blocks(page, "python")) for page in GUIDES) > 5
    assert sum(len(lines(page)) for page in PAGES) > 40


@pytest.mark.parametrize(
    ("line", "odd"),
    [
        ("lsn data chek FOLDER", ["chek"]),
        ("lsn train RUN --date DATA", ["--date"]),
        ("lsn run A.ipynb -p a=1 --out B.ipynb", []),
        ("lsn data check FOLDER --split test", []),
        ("lsn data check FOLDER --split=test", []),
        ("lsn data check FOLDER --spilt=test", ["--spilt=test"]),
        ("lsn adjust A.png --jsw-mm -0.5 --out B.png", []),
    ],
)
def test_a_wrong_word_is_found(line, odd):
    assert unknown(line) == odd


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guide_says_what_it_takes_and_what_goes_wrong(page):
    text = page.read_text(encoding="utf-8")
    assert text.split("\n\n")[1].startswith("At the end") and "You need:" in text and "## If it goes wrong" in text
