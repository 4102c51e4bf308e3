"""pyproject.toml, constraints.txt, environment.yml and the papers around them say the same."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for line in sum(EXTRAS.values(), PROJECT["dependencies"])]
PINNED_BY_TORCH = re.compile(r"nvidia-|cuda-|triton$")


def read_pins() -> list[Requirement]:
    """The lines of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


PINS = {canonicalize_name(pin.name): pin for pin in read_pins()}


def pinned(name: str) -> Version:
    """The version that constraints.txt gives a package."""
    return Version(next(iter(PINS[canonicalize_name(name)].specifier)).version)


def installed_closure(name: str, extras: frozenset[str], seen: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What an installed distribution and its extras ask for on this machine, as (package, extra) pairs."""
    for extra in {"", *extras} - {e for package, e in seen if package == canonicalize_name(name)}:
        seen.add((canonicalize_name(name), extra))
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                installed_closure(requirement.name, frozenset(requirement.extras), seen)
    return seen


def test_each_pin_is_one_exact_version_of_one_package() -> None:
    assert len(read_pins()) == len(PINS)
    for pin in PINS.values():
        assert re.fullmatch(r"==[^*]+", str(pin.specifier)), pin
        assert not pin.marker, pin
        assert not pin.extras, pin
    assert not [name for name in PINS if PINNED_BY_TORCH.match(name)]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_each_requirement_has_a_pin_that_satisfies_it(requirement: Requirement) -> None:
    assert pinned(requirement.name) in requirement.specifier


def test_everything_installed_on_our_behalf_is_pinned() -> None:
    try:
        closure = installed_closure(PROJECT["name"], frozenset(EXTRAS), set())
    except PackageNotFoundError as missing:
        pytest.skip(f"the environment lacks an extra: {missing}")
    names = {name for name, _ in closure} - {PROJECT["name"]}
    assert sorted(name for name in names - PINS.keys() if not PINNED_BY_TORCH.match(name)) == []


def test_conda_asks_for_the_same() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["name"] == PROJECT["name"]
    *packages, pip = conda["dependencies"]
    python = next(line.removeprefix("python=") for line in packages if line.startswith("python="))
    oldest = next(iter(SpecifierSet(PROJECT["requires-python"])))
    assert (oldest.operator, oldest.version) == (">=", python)
    assert "pip" in packages
    assert pip["pip"] == ["-c constraints.txt", f"-e .[{','.join(sorted(EXTRAS))}]"]


def test_make_asks_for_the_same() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert f"-c constraints.txt -e '.[{','.join(sorted(EXTRAS))}]'" in makefile
    oldest = PROJECT["requires-python"].removeprefix(">=").replace(".", ", ")
    assert f"sys.version_info < ({oldest})" in makefile


def test_workflows_start_at_the_oldest_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f">={min(pythons, key=Version)}" == PROJECT["requires-python"]


@pytest.mark.parametrize(("repository", "package"), [("ruff-pre-commit", "ruff"), ("nbstripout", "nbstripout")])
def test_commit_hooks_run_the_pinned_tools(repository: str, package: str) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    revisions = [hook["rev"] for hook in hooks if hook["repo"].endswith(f"/{repository}")]
    assert [Version(revision) for revision in revisions] == [pinned(package)]


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changelog = re.findall(r"^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changelog[0] == (PROJECT["version"], str(citation["date-released"]))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_citation_has_what_cff_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert all(citation[key] for key in ("message", "title", "authors"))
    paper = citation["preferred-citation"]
    assert all(paper[key] for key in ("type", "title", "authors"))
    assert all("name" in author or "family-names" in author for author in citation["authors"] + paper["authors"])
    assert paper["url"] == PROJECT["urls"]["Paper"]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)", (ROOT / page).read_text())
    local = [unquote(link.partition("#")[0]) for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in local if not (ROOT / link).exists()] == []


WORKFLOWS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / ".github/workflows").glob("*.yml"))


def test_nothing_is_published_that_did_not_pass() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())["jobs"]
    assert set(jobs["publish"]["needs"]) == {"tests", "build"} and jobs["tests"]["uses"].endswith("tests.yml")
    steps = [step.get("run") or step["uses"].partition("@")[0] for step in jobs["build"]["steps"]]
    assert steps.index("make book") < steps.index(".venv/bin/lsn metrics compare --profile quick")
    assert steps[-1] == "actions/upload-pages-artifact" and "if" not in jobs["build"]["steps"][-1]
    assert not any(step.get("continue-on-error") for job in jobs.values() for step in job.get("steps", []))


def test_binder_installs_the_book() -> None:
    binder = yaml.safe_load((ROOT / "binder/environment.yml").read_text())
    assert binder["dependencies"][-1]["pip"] == ["-e ..[book]"]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run", *WORKFLOWS])
def test_named_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|run: )make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert named - targets == set()
