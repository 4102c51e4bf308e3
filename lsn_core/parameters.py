"""The parameters of a notebook: what its `parameters` cell declares, and values made to fit it.

A notebook declares parameters as plain literals in the cell tagged `parameters`. Values come from a command line
(always text) or from a profile, and take the type of the default, or of its annotation where there is one.
"""

import ast
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lsn_core.files import InputError, read_json

TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NOTHING = ("none", "null", "")
TYPES = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "tuple": list, "dict": dict}


@dataclass(frozen=True)
class Parameter:
    """One declared parameter. `kinds` are names of types in the order in which a text is tried."""

    name: str
    default: Any
    kinds: tuple[str, ...]
    item: str | None = None  # the kind of a list's elements, where they are all alike


def read_cells(source: Path) -> list[dict[str, Any]]:
    """The cells of a notebook file. Raises `InputError` where it is not a notebook of format 4."""
    notebook = read_json(source)
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise InputError(f"{source}: not a notebook of format 4; open it in JupyterLab and save it again")
    return cells


def declared_parameters(source: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, in its order; empty where no cell is tagged `parameters`.

    Raises `InputError` where a default is computed: papermill would replace the value and not what follows from it.
    """
    tagged = [cell for cell in read_cells(source) if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if not tagged:
        return {}
    try:
        statements = ast.parse("".join(tagged[0]["source"])).body
    except SyntaxError as error:
        raise InputError(f"{source}: line {error.lineno} of the parameters cell is not Python; correct it") from None
    found = [_parameter(source, statement) for statement in statements]
    return {parameter.name: parameter for parameter in found if parameter}


def _parameter(source: Path, statement: ast.stmt) -> Parameter | None:
    """The parameter that one statement declares, or None where it is no assignment to one name."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or not isinstance(targets[0], ast.Name):
        return None
    name = targets[0].id
    try:
        default = ast.literal_eval(statement.value)
    except (ValueError, TypeError):
        raise InputError(f"{source}: the default of parameter {name!r} is computed; write a plain value") from None
    annotation = getattr(statement, "annotation", None)
    kinds, item = _annotated(annotation) if annotation else ((type(default).__name__,), _common_kind(default))
    return Parameter(name, default, kinds, item)


def _annotated(node: ast.expr) -> tuple[tuple[str, ...], str | None]:
    """The kinds that an annotation allows, text last, and the kind of a list's elements."""
    if isinstance(node, ast.BinOp):
        (left, left_item), (right, right_item) = _annotated(node.left), _annotated(node.right)
        return tuple(sorted(left + right, key=lambda kind: kind == "str")), left_item or right_item
    if isinstance(node, ast.Subscript):
        inner = ast.unparse(node.slice)
        return _annotated(node.value)[0], inner if inner in TYPES else None
    return ("NoneType" if ast.unparse(node) == "None" else ast.unparse(node),), None


def _common_kind(default: Any) -> str | None:
    """The kind shared by all elements of a list, or None."""
    kinds = {type(item).__name__ for item in default} if isinstance(default, list | tuple) else set()
    return kinds.pop() if len(kinds) == 1 else None


def fit_parameters(source: Path, given: dict[str, Any], *, origin: str = "the command line") -> dict[str, Any]:
    """Check the names of `given` against what the notebook declares, and fit each value to its type.

    `origin` says in messages where the values were written. Raises `InputError` for a name that the notebook does not
    declare, and for a value that cannot be what the default is.
    """
    declared = declared_parameters(source)
    for name in given:
        if name not in declared:
            known = f"it declares {', '.join(declared)}" if declared else "it declares none"
            raise InputError(f"{source}: {origin} sets {name!r}, which the notebook does not declare; {known}")
    return {name: _fit(source, origin, declared[name], value) for name, value in given.items()}


def _fit(source: Path, origin: str, parameter: Parameter, value: Any) -> Any:
    """One value as the notebook expects it."""
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if parameter.kinds == ("NoneType",):
        hint = f"annotate it in the notebook, as in `{parameter.name}: str | None = None`"
        raise InputError(f"{source}: the type of parameter {parameter.name!r} is unknown; {hint}")
    for kind in parameter.kinds:
        try:
            fitted = convert(value, kind, item=parameter.item)
            json.dumps(fitted, allow_nan=False)
            return fitted
        except (ValueError, TypeError, SyntaxError, yaml.YAMLError):
            continue
    wanted = " or ".join("None" if kind == "NoneType" else kind for kind in parameter.kinds)
    example = f"its default is {parameter.default!r}"
    raise InputError(f"{source}: {origin} sets {parameter.name!r} to {value!r}, which is not {wanted}; {example}")


def convert(value: Any, kind: str, *, item: str | None = None) -> Any:
    """`value` as `kind`, reading text the way a person writes it; raises `ValueError` or `TypeError` where it is not.

    An int stands for a float; nothing else changes its type. `item` is the kind of a list's elements.
    """
    if isinstance(value, str) and kind != "str":
        value = _read(value.strip(), kind)
    if kind == "NoneType":
        return _expect(value, value is None)
    if kind not in TYPES:
        raise TypeError(kind)
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind == "tuple" and isinstance(value, tuple):
        value = list(value)
    _expect(value, type(value) is TYPES[kind])
    if kind == "float":
        _expect(value, math.isfinite(value))
    return [convert(one, item) for one in value] if item and kind in ("list", "tuple") else value


def _read(text: str, kind: str) -> Any:
    """Text as a value of `kind`; lists and dicts in Python's or in YAML's notation."""
    if kind == "NoneType":
        return None if text.lower() in NOTHING else text
    if kind == "bool":
        return TRUTHS.get(text.lower(), text)
    if kind in ("int", "float"):
        return TYPES[kind](text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return yaml.safe_load(text)


def _expect(value: Any, true: bool) -> Any:
    """`value`, or `ValueError` where it is not what was asked for."""
    if not true:
        raise ValueError(value)
    return value
