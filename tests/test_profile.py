"""Profiles: the shipped ones fit the notebooks, and anything odd in a profile is refused."""

from pathlib import Path

import pytest

from lsn_core.files import InputError
from lsn_core.parameters import fit_parameters
from lsn_core.profile import known_profiles, load_profile

ROOT = Path(__file__).parents[1]


def written(folder: Path, text: str) -> str:
    """The path of a profile with this text."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_shipped_profiles():
    assert {"quick", "laptop", "paper"} <= set(known_profiles())


@pytest.mark.parametrize("name", sorted(known_profiles()))
def test_shipped_profiles_fit_the_notebooks(name):
    for stem, values in load_profile(name)["notebooks"].items():
        fit_parameters(ROOT / "notebooks" / f"{stem}.ipynb", values)


def test_a_path_is_read_as_it_is(tmp_path):
    profile = load_profile(written(tmp_path, "train: {steps: 3}\nnotebooks:\n  01_a: {size: 64}\n  02_b:\n"))
    assert profile == {"train": {"steps": 3}, "notebooks": {"01_a": {"size": 64}, "02_b": {}}}


@pytest.mark.parametrize("text", ["", "train:\n", "notebooks: {}\n"])
def test_sections_may_be_absent_or_empty(tmp_path, text):
    assert load_profile(written(tmp_path, text)) == {"train": {}, "notebooks": {}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "the file is not a mapping"),
        ("trian: {}\n", "unknown section 'trian'"),
        ("train: 3\n", "section 'train'"),
        ("notebooks: [01_a]\n", "section 'notebooks'"),
        ("notebooks: {01_a: 64}\n", "notebook section '01_a'"),
        ("train: {1: 2}\n", "section 'train'"),
        ("train: {\n", "not valid YAML"),
    ],
)
def test_odd_profiles_are_refused(tmp_path, text, told):
    with pytest.raises(InputError, match=told) as refusal:
        load_profile(written(tmp_path, text))
    assert "mine.yaml" in str(refusal.value)


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"'quik'.*laptop, paper, quick"):
        load_profile("quik")
    with pytest.raises(InputError, match="no such file"):
        load_profile(str(tmp_path / "absent.yaml"))
