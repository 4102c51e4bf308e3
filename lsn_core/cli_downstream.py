"""`lsn downstream`: does learning from synthetic joints first help? Prepare a cohort, run the arms, compare them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsn_core.files import InputError
from lsn_core.signals import tell

if TYPE_CHECKING:
    import torch

downstream_app = typer.Typer(
    no_args_is_help=True, help="Downstream tasks: pre-training on synthetic joints against fair controls."
)

Plan = Annotated[Path | None, typer.Option(help="YAML of arms and runs; default the project's own.")]


@downstream_app.command()
def prepare(
    out: Annotated[Path, typer.Argument(help="File to write, ending in .safetensors.")],
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Data set with a train and a test split; none: phantoms.")
    ] = None,
    phantoms: Annotated[int, typer.Option(min=8, help="How many to draw where no data are given, as film.")] = 494,
    visits: Annotated[int, typer.Option(min=1, help="Radiographs of each phantom.")] = 3,
    size: Annotated[int, typer.Option(min=32, max=512, help="px of the images.")] = 128,
    weights: Annotated[str, typer.Option(help="A shipped generator, or a weights file.")] = "compact",
) -> None:
    """Separate and measure radiographs once for all runs. What cannot be used is told, and left out."""
    from lsn_core.cohort import gather_cohort, of_dataset, of_phantoms, write_cohort
    from lsn_core.data import open_dataset
    from lsn_core.results import provenance

    some = of_dataset(data) if data else of_phantoms(phantoms, times=visits, size=256)
    refused = lambda no: typer.echo(f"{no.name}: {no.why}", err=True)  # noqa: E731
    cohort = gather_cohort(some, weights=weights, size=size, told=refused)
    drawn = {"phantoms": phantoms, "visits": visits}
    origin = {"data": open_dataset(data, split="all").fingerprint()} if data else drawn
    write_cohort(out, cohort, **provenance(**origin, weights=weights, size=size))
    typer.echo(f"{out}: {cohort.told()}")


@downstream_app.command()
def train(
    runs: Annotated[Path, typer.Argument(help="Folder for the runs, one folder each.")],
    cohort: Annotated[Path, typer.Option(help='A file of "lsn downstream prepare".')],
    other: Annotated[Path | None, typer.Option(help="Another cohort, for arms that learn elsewhere first.")] = None,
    plan: Plan = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Only this network; repeatable.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; repeatable.")] = None,
    share: Annotated[list[float] | None, typer.Option(help="Only this share of the joints; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1; auto takes a GPU where there is one.")] = "auto",
) -> None:
    """Train and test the runs of a plan. Ctrl-C saves, the same line goes on; started several times, they share it."""
    from lsn_core.coaching import Place, run_experiment
    from lsn_core.cohort import read_cohort
    from lsn_core.course import read_experiment

    wanted = {"task": task, "network": network, "arm": arm, "share": share, "seed": seed}
    experiment = read_experiment(plan).part(**{key: some or [] for key, some in wanted.items()})
    (here, origin), elsewhere = read_cohort(cohort), read_cohort(other)[0] if other else None
    for path, one in ((cohort, here), (other, elsewhere)):
        if one and one.size != experiment.size:
            remedy = f"prepare it with --size {experiment.size}, or change size in the plan"
            raise InputError(f"{path}: its images are {one.size} px, and the plan's {experiment.size}; {remedy}")
    on = _device(device)
    lonely = next((c for c in experiment.courses if any("elsewhere" in phase.show for phase in c.phases)), None)
    if lonely and not other:
        raise InputError(f"{lonely.name}: learns from another cohort first; name one with --other, or take other arms")
    place = Place(runs, here, elsewhere, on, {"cohort": origin})
    done = run_experiment(place, experiment, tell=tell)
    typer.echo(f"{runs}: {'all runs are done' if done else 'some runs are not done; the same line goes on'}")


def _device(name: str) -> "torch.device":
    """The device of that name. Raises `InputError` where this machine has none."""
    import torch

    try:
        found = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}; give cpu, or auto") from error
    return found


@downstream_app.command()
def baselines(
    runs: Annotated[Path, typer.Argument(help="Folder of the runs, where theirs are put.")],
    cohort: Annotated[Path, typer.Option(help='A file of "lsn downstream prepare".')],
) -> None:
    """Measure what needs no training: edges of separated layers, phase correlation, intensity registration."""
    from lsn_core.cohort import read_cohort
    from lsn_core.comparators import write_comparators

    here, origin = read_cohort(cohort)
    write_comparators(runs, here, origin)
    typer.echo(f"{runs}: baselines are measured")


@downstream_app.command()
def report(
    runs: Annotated[Path, typer.Argument(help="Folder of the runs that are done.")],
    out: Annotated[Path | None, typer.Option(help="JSON to write; default downstream.json among the runs.")] = None,
    cohort: Annotated[Path | None, typer.Option(help="Their cohort, to add how widths are distributed.")] = None,
) -> None:
    """Put the arms side by side, with intervals and corrected p-values, and tell what pre-training is worth."""
    from lsn_core.cohort import read_cohort
    from lsn_core.course import DEGREES
    from lsn_core.downstream import gather_downstream, origin
    from lsn_core.downstream_tables import LEGEND, arms_table, scores_table, worth_table
    from lsn_core.pool import coverage
    from lsn_core.results import write_metrics
    from lsn_core.sampling import Plan as Widths

    found = gather_downstream(runs)
    if cohort:
        found["coverage"] = coverage(read_cohort(cohort)[0], Widths(degrees=DEGREES))
    tables = (scores_table(found), arms_table(found["contrasts"]), worth_table(found["worth"]), LEGEND)
    typer.echo("\n\n".join(table for table in tables if table))
    typer.echo(f"written to {write_metrics(out or runs / 'downstream.json', found, kind='downstream', **origin(runs))}")
