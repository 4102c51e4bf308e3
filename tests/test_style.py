"""The package's habits, read from its source: a reader can rely on them everywhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lsn_core

FOLDER = Path(lsn_core.__file__).parent
SOURCES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.py")) if path.stem != "__init__"
}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}
ORDER = re.findall(
    r"\w+",
    """files shapes radiograph joint masks dicom images metadata rows grain bone anatomy phantom dissection detector jsw
    harmonic pseudo dataset pack manifest inventory crop ram layouts check data fetch batch parameters profile transunet
    unet critic networks segmentation intake stage losses dip baseline config metrics results agreement grading
    segmentation_scores truth probe traces motion consistency inception texture outline appearance compare two_sample
    machine checkpoint scene training validation fidelity cases evaluation figures training_figures measure_figures
    adjustment_figures reader_figures material journal keeper signals run ablation ranking readings readers reader_study
    turing leaks simulated_readers lessons segmentation_training movement continuation synthesis registration
    progression registration_baselines defects adjustment sampling labels export production cohort pool predictors tasks
    answers course coaching comparators downstream downstream_tables downstream_figures explorer separation
    explorer_widget rater rater_widget notebook expectations reruns book sweep sweep_results workflow cli_data
    cli_images cli_turing cli_downstream cli_book cli""",
)
POSITIONAL_DEFAULTS = {"phantom.Phantom.render"}  # design.md, section 8
EQUATIONS = {  # of the paper: the functions, classes and settings whose docstring or comment names each
    1: {"networks.Generator", "networks.sigmoid_head"},
    2: {"networks.Networks"},
    3: {"networks.Networks"},
    4: {"radiograph.compose", "networks.partition_head", "dip.fit"},
    5: {"radiograph.shift", "radiograph.move_bones", "scene.draw_shift", "movement.shifts"},
    6: {"radiograph.shift", "radiograph.move_bones", "scene.draw_shift", "movement.shifts"},
    7: {"losses.reconstruction", "stage.Weights"},
    8: {"losses.supervision", "training.move", "stage.Weights"},
    9: {"losses.soft_tissue_paper", "losses.soft_tissue_bounded", "stage.Weights"},
    10: {"pseudo", "pseudo.pseudo_overlap", "metrics.ring_errors"},
    11: {
        "losses.generator_loss",
        "stage.Weights",
        "training.Moment",
        "training.generator_terms",
        "training.generator_step",
    },
    12: {"losses.supervision", "losses.discrimination", "training.segmenter_step", "training.discriminator_step"},
    13: {"radiograph.adjust_jsw", "motion.rendered_scores", "synthesis", "synthesis.recompose", "synthesis.Source"},
}
SEEDED = {"run", "segmentation_training", "coaching"}  # whole trainings, which begin from their own seed
Definition = ast.FunctionDef | ast.ClassDef


def definitions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    """All functions and classes, and the methods of classes, by their full names; not what is inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            name = f"{prefix}.{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, name)


ALL = {name: node for module, tree in TREES.items() for name, node in definitions(tree, module)}
PUBLIC = {name: node for name, node in ALL.items() if not re.search(r"\._", name)}
FUNCTIONS = {name: node for name, node in ALL.items() if isinstance(node, ast.FunctionDef)}


def calls(tree: ast.AST) -> Iterator[str]:
    """What is called, as it is written."""
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_the_walk_finds_what_there_is():
    """Else the tests below would hold of nothing."""
    assert set(SOURCES) == set(ORDER)
    assert {"radiograph.compose", "phantom.Phantom.render", "run.train_run"} <= PUBLIC.keys() & FUNCTIONS.keys()
    assert "keeper.Keeper.save" in FUNCTIONS and len(PUBLIC) > 100


@pytest.mark.parametrize("module", SOURCES)
def test_modules_are_short_and_say_what_they_are(module):
    assert len(SOURCES[module].splitlines()) < 400
    assert ast.get_docstring(TREES[module])


def test_everything_has_a_docstring():
    assert [name for name, node in ALL.items() if not ast.get_docstring(node) and not name.endswith("__")] == []


def test_everything_is_annotated():
    bare = []
    for name, node in FUNCTIONS.items():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        given = [a for a in arguments if a and a.arg not in ("self", "cls")]
        bare += [f"{name}({a.arg})" for a in given if a.annotation is None]
        bare += [] if node.returns else [f"{name} ->"]
    assert bare == []


def test_optional_arguments_are_named():
    """A default comes after `*`, or is a field of a dataclass; what the command line offers has its own form."""
    named = {name: node for name, node in FUNCTIONS.items() if name in PUBLIC and not name.startswith("cli")}
    assert {name for name, node in named.items() if node.args.defaults} == POSITIONAL_DEFAULTS


def test_device_seed_files_and_output_belong_to_the_caller():
    for module, tree in TREES.items():
        called = set(calls(tree))
        assert not called & {"print", "os.getcwd", "os.chdir", "np.random.seed", "random.seed"}, module
        assert not any(name.endswith(".cuda") for name in called), module
        seeding = {name for name in called if name.endswith("manual_seed") and name != "torch.Generator().manual_seed"}
        assert seeding <= ({"torch.manual_seed"} if module in SEEDED else set()), module
    assert "torch.manual_seed" in set(calls(TREES["run"])) and "typer.echo" in set(calls(TREES["cli"]))


def test_imports_point_one_way():
    """`ORDER` is the order in which the package is read; a module imports only from those before it."""
    for module, tree in TREES.items():
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        used = {name for node in imports for name in imported(node)}
        late = {name for name in used if ORDER.index(name) >= ORDER.index(module)}
        assert not late, f"{module} imports {late}"


def imported(node: ast.AST) -> Iterator[str]:
    """Modules of the package that an import names."""
    if isinstance(node, ast.ImportFrom) and node.module == "lsn_core":
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lsn_core."):
        yield node.module.removeprefix("lsn_core.")


def test_equations_are_where_they_are_looked_for():
    """Searching for "Eq. 4" leads to its function. A number is written as Eq. 4, Eq. 5-6, or in a field's comment."""
    found: dict[int, set[str]] = {}
    for module, text in SOURCES.items():
        lines = text.splitlines()
        for number, line in enumerate(lines, start=1):
            for first, last in re.findall(r"Eq\. (\d+)(?:-(\d+))?", line):
                for equation in range(int(first), int(last or first) + 1):
                    found.setdefault(equation, set()).add(owner(module, number))
    assert found == EQUATIONS


def owner(module: str, line: int) -> str:
    """The outermost function or class around a line, or the module."""
    around = [n for n, node in ALL.items() if n.startswith(f"{module}.") and node.lineno <= line <= node.end_lineno]
    return min(around, key=len, default=module)
