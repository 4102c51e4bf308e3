"""Notebook parameters: what is declared, and how texts and profile values are fitted to it."""

import json
from pathlib import Path

import pytest

from lsn_core.files import InputError
from lsn_core.parameters import declared_parameters, fit_parameters

CELL = """seed = 0  # any integer
fast = True
name = "x"
rate: float = 1  # annotated: not an int
deltas = [0.5, 1.0]
counts: list[int] = []
options = {"a": 1}
weights: str | None = None
limit: int | None = None
bare = None
print("not a declaration")
"""


@pytest.mark.parametrize(
    ("name", "given", "fitted"),
    [
        ("fast", "false", False),
        ("fast", "True", True),
        ("fast", "off", False),
        ("seed", "12", 12),
        ("seed", "-1", -1),
        ("name", "007", "007"),
        ("name", "false", "false"),
        ("name", "none", "none"),
        ("name", Path("a/b"), "a/b"),
        ("rate", "1e-4", 1e-4),
        ("rate", 2, 2.0),
        ("deltas", "[1, 2e-1]", [1.0, 0.2]),
        ("deltas", ["1e-1"], [0.1]),  # YAML 1.1 takes 1e-1 for a text
        ("counts", "[1,2]", [1, 2]),
        ("options", "{b: 2}", {"b": 2}),
        ("weights", "none", None),
        ("weights", "null", None),
        ("weights", "w.safetensors", "w.safetensors"),
        ("limit", "3", 3),
        ("limit", "None", None),
        ("limit", None, None),
    ],
)
def test_values_take_the_type_of_the_default(notebook, name, given, fitted):
    value = fit_parameters(notebook(CELL), {name: given})[name]
    assert value == fitted and type(value) is type(fitted)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("seed", "2.5"),
        ("seed", 2.0),
        ("seed", True),
        ("seed", ""),
        ("fast", "maybe"),
        ("fast", 2),
        ("name", 7),
        ("name", None),
        ("rate", "fast"),
        ("rate", "nan"),
        ("deltas", "0.5"),
        ("deltas", "[a]"),
        ("counts", "[1.5]"),
        ("counts", "[1"),
        ("options", {"a": float("inf")}),
        ("limit", "many"),
        ("bare", "x"),
    ],
)
def test_values_that_do_not_fit_are_refused(notebook, name, given):
    with pytest.raises(InputError, match=f"'{name}'") as refusal:
        fit_parameters(notebook(CELL), {name: given})
    assert "source.ipynb" in str(refusal.value) and "\n" not in str(refusal.value)


def test_unknown_names_are_refused_with_the_known_ones(notebook):
    with pytest.raises(InputError, match=r"'sede'.*seed, fast, name"):
        fit_parameters(notebook(CELL), {"sede": "1"})
    with pytest.raises(InputError, match=r"mine.yaml sets 'sede'"):
        fit_parameters(notebook(CELL), {"sede": 1}, origin="mine.yaml")


def test_a_notebook_without_a_tag_declares_nothing(notebook):
    source = notebook("seed = 0")
    content = json.loads(source.read_text())
    content["cells"][0]["metadata"] = {}
    source.write_text(json.dumps(content))
    assert declared_parameters(source) == {}
    with pytest.raises(InputError, match="it declares none"):
        fit_parameters(source, {"seed": "1"})


def test_source_as_a_list_of_lines(notebook):
    source = notebook("")
    content = json.loads(source.read_text())
    content["cells"][0]["source"] = ["a = 1\n", "b = -2.0"]
    source.write_text(json.dumps(content))
    assert {one.name: one.default for one in declared_parameters(source).values()} == {"a": 1, "b": -2.0}


@pytest.mark.parametrize(("cell", "told"), [("a = 1 +", "not Python"), ("a = 1\nb = a + 1", "'b' is computed")])
def test_cells_that_cannot_be_injected_into_are_refused(notebook, cell, told):
    with pytest.raises(InputError, match=told):
        declared_parameters(notebook(cell))


@pytest.mark.parametrize("text", ["not json", "[]", '{"worksheets": []}'])
def test_files_that_are_no_notebooks_are_refused(tmp_path, text):
    path = tmp_path / "x.ipynb"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x.ipynb"):
        declared_parameters(path)
    with pytest.raises(InputError, match="no such file"):
        declared_parameters(tmp_path / "y.ipynb")
