"""`lsn run`, `book`, `sweep`, `metrics`: notebooks executed one by one, as a book, in numbers, and what they found."""

from pathlib import Path
from typing import Annotated

import typer

from lsn_core.cli_images import pairs
from lsn_core.files import InputError

book_app = typer.Typer()
metrics_app = typer.Typer(no_args_is_help=True, help="What reruns of the book find, beside what is expected of them.")
book_app.add_typer(metrics_app, name="metrics")

PROFILE = "quick, laptop, paper, or the path of a .yaml."
Profile = Annotated[str, typer.Option(help=PROFILE)]


@book_app.command("run")
def run_command(
    notebook: Annotated[Path, typer.Argument(help="Notebook with a cell tagged parameters.")],
    out: Annotated[Path, typer.Option(help="Where the executed copy goes; a failed one becomes .failed.ipynb.")],
    profile: Annotated[str | None, typer.Option(help=PROFILE)] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="Set a parameter; repeatable.")
    ] = None,
) -> None:
    """Execute a notebook with papermill, strictly: unknown parameters and values of another type are refused."""
    from lsn_core.notebook import run_notebook

    typer.echo(run_notebook(notebook, out, parameters=pairs(parameters or []), profile=profile))


@book_app.command()
def book(
    profile: Profile = "quick",
    force: Annotated[bool, typer.Option("--force", help="Execute all notebooks, changed or not.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Notebooks at once; default as many as cores.")] = None,
    memory: Annotated[
        int | None, typer.Option(min=1, metavar="MB", help="What they may take together; default what is free.")
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar="LSN_REPOSITORY", help="Public copy that launch buttons lead to; none: no buttons."
        ),
    ] = None,
) -> None:
    """Execute the notebooks that have changed and build the book, from the root of a checkout."""
    from lsn_core.book import build_book

    means = {"jobs": jobs, "memory_mb": memory, "repository": repository}
    typer.echo(f"the book is at {build_book(Path.cwd(), profile=profile, force=force, **means)}")


@book_app.command()
def sweep(
    plan: Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="Notebooks, and the parameters to run them with.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs, table and page; default build/sweeps/ and the plan's name.")
    ] = None,
    on: Annotated[str, typer.Option(help="local, slurm, kubernetes, or the folder of one's own profile.")] = "local",
    cores: Annotated[
        int | None, typer.Option(min=1, help="Cores to use; elsewhere than here, jobs at once. Default: all there are.")
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Check the plan, list its runs, and run nothing.")] = False,
) -> None:
    """Run notebooks with many parameters, at once and resumably, and gather what they found. The same line goes on."""
    from lsn_core.sweep import read_sweep
    from lsn_core.workflow import run_sweep

    if only_list:
        typer.echo("\n".join(read_sweep(plan).runs))
        raise typer.Exit
    place = out or Path("build/sweeps", plan.stem)
    page = run_sweep(plan, place, where=on, cores=cores, tell=lambda line: typer.echo(f"lsn sweep: {line}", err=True))
    typer.echo(f"all runs are done; they are side by side in {page}")


@metrics_app.command()
def compare(
    runs: Annotated[Path, typer.Argument(help="Folder with a folder for each notebook.")] = Path("build/runs"),
    profile: Profile = "quick",
    some: Annotated[bool, typer.Option("--some", help="Compare the notebooks that are there.")] = False,
) -> None:
    """Compare a rerun's metrics with those that are expected, each with its tolerance. Exit code 1 if they differ."""
    from lsn_core.expectations import compare_runs, expected_path, report

    found = compare_runs(runs, expected_path(Path("notebooks"), profile), some=some)
    typer.echo(report(found))
    raise typer.Exit(1 if any(found.values()) else 0)


@metrics_app.command()
def keep(
    runs: Annotated[list[Path], typer.Argument(help="Folders as build/runs, of reruns on one or several machines.")],
    executed: Annotated[Path, typer.Option(help="Folder of their executed notebooks.")] = Path("build/executed"),
    profile: Profile = "quick",
) -> None:
    """Make what was found what is expected from now on; tolerances follow from how far the reruns differ."""
    from lsn_core.expectations import expected_path, keep_runs
    from lsn_core.reruns import needs_of

    if not executed.is_dir():
        raise InputError(f"{executed}: no such folder; name that of the executed notebooks with --executed")
    typer.echo(keep_runs(runs, needs_of(executed), expected_path(Path("notebooks"), profile)))
