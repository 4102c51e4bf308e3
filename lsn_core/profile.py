"""Profiles: named settings for training and for each notebook, one YAML file per profile.

A profile is a mapping with two sections: `train`, keys of the training configuration, and `notebooks`, which gives
for a notebook's stem the parameters that differ from the notebook's own defaults.
"""

from pathlib import Path
from typing import Any

from lsn_core.files import InputError, read_yaml

SECTIONS = ("train", "notebooks")
PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "profiles", PACKAGE.parent / "notebooks" / "profiles")  # in a wheel, and in a checkout


def known_profiles() -> dict[str, Path]:
    """The shipped profiles, by name."""
    return {path.stem: path for folder in reversed(FOLDERS) for path in sorted(folder.glob("*.yaml"))}


def profile_path(name_or_path: str) -> Path:
    """The file of a shipped profile, or the path itself where it ends in .yaml.

    Raises `InputError` with the known names where there is no such profile.
    """
    if str(name_or_path).endswith((".yaml", ".yml")):
        return Path(name_or_path)
    known = known_profiles()
    if name_or_path not in known:
        names = ", ".join(sorted(known)) or "none is installed"
        raise InputError(f"no profile is called {name_or_path!r}; choose one of {names}, or give the path of a .yaml")
    return known[name_or_path]


def load_profile(name_or_path: str) -> dict[str, dict[str, Any]]:
    """Read a profile as {"train": {key: value}, "notebooks": {stem: {parameter: value}}}; absent sections are empty.

    Values are as YAML reads them: note that YAML 1.1 takes `1e-4` for a string. Raises `InputError` where the
    profile is unknown, or holds anything but these sections.
    """
    path = profile_path(name_or_path)
    content = _mapping(read_yaml(path), path, "the file")
    unknown = sorted(set(content) - set(SECTIONS))
    if unknown:
        raise InputError(f"{path}: unknown section {unknown[0]!r}; a profile has the sections {' and '.join(SECTIONS)}")
    profile = {section: _mapping(content.get(section), path, f"section {section!r}") for section in SECTIONS}
    for stem, values in profile["notebooks"].items():
        profile["notebooks"][stem] = _mapping(values, path, f"notebook section {stem!r}")
    return profile


def _mapping(value: Any, path: Path, what: str) -> dict[str, Any]:
    """`value` itself, or {} where nothing was written; anything but a mapping from names is refused."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{path}: {what} is not a mapping from names to values; write it as `name: value` lines")
    return value
