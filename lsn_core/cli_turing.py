"""`lsn turing`: assemble a visual Turing test, make the page that people rate it with, and score what they said."""

from pathlib import Path
from typing import Annotated

import typer

turing_app = typer.Typer(no_args_is_help=True, help="The visual Turing test: assemble, rate, score, and ask a machine.")

Data = Annotated[str, typer.Option("--data", metavar="PATH", help="Data set of real radiographs.")]
Synthetic = Annotated[str, typer.Option(metavar="PATH", help='Data set of synthetic ones, as of "lsn synthesize".')]
Split = Annotated[str, typer.Option(help="Part of the real data; joints that no network has learnt from.")]


@turing_app.command()
def assemble(
    data: Data,
    synthetic: Synthetic,
    out: Annotated[Path, typer.Option(help="New folder for the set, which raters get.")],
    key: Annotated[Path, typer.Option(help="New file for the truth, which they do not get.")],
    split: Split = "test",
    real: Annotated[int, typer.Option(min=1, help="How many real images.")] = 50,
    made: Annotated[int, typer.Option(min=1, help="How many synthetic images.")] = 50,
    training: Annotated[int, typer.Option(min=0, help="Examples that are shown first, with their answers.")] = 10,
    size: Annotated[int, typer.Option(min=32, max=4096, help="px of the images.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="Of what is chosen, and of the order.")] = 0,
) -> None:
    """Draw a set: the same fingers in both halves, no person in both, all files alike. Exit code 1 if they leak."""
    from lsn_core.leaks import leaking, leaks, report
    from lsn_core.readings import read_key
    from lsn_core.turing import Design
    from lsn_core.turing import assemble as write_set

    rows = write_set(data, synthetic, out, key, Design(real, made, training, size, seed), split=split)
    told = f"{real} real and {made} synthetic images and {training} examples, of {len({r.joint for r in rows})} joints"
    typer.echo(f"{out}: {told}; key: {key}")
    for column in ("subject", "finger"):
        if any(getattr(row, column) is None for row in rows):
            typer.echo(f"warning: not every {column} is known, so the halves may not be apart or alike in it", err=True)
    found = leaks(out, read_key(key).truth, seed=seed)
    typer.echo(report(found))
    raise typer.Exit(1 if leaking(found) else 0)


@turing_app.command()
def page(
    folder: Annotated[Path, typer.Argument(help="Folder of a set.")],
    out: Annotated[Path, typer.Option(help="File to write, a .html that works by a double-click, without a network.")],
) -> None:
    """Write one page with which a person rates a set on any computer, and saves the answers as a CSV file."""
    from lsn_core.rater import write_rater

    typer.echo(f"{write_rater(folder, out)}: open it in a browser")


@turing_app.command()
def score(
    answers: Annotated[list[Path], typer.Argument(help="CSV files that raters saved.")],
    key: Annotated[Path, typer.Option(help="The key of their set.")],
    margin: Annotated[float, typer.Option(min=0.01, max=0.49, help="What still counts as guessing: 0.5 ± this.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the numbers, as JSON.")] = None,
) -> None:
    """Score readers, each and together, as the paper's Table 3 does and as readers of medical journals expect."""
    from lsn_core import reader_study, readings
    from lsn_core.results import recorded, write_metrics

    secret = readings.read_key(key)
    study = readings.as_study(secret, [one for path in answers for one in readings.read_readings(path)])
    scores = reader_study.study_scores(study, margin=margin, seed=seed)
    typer.echo(reader_study.report(scores, paper=reader_study.table_scores(recorded("paper")["metrics"]["table_3"])))
    if out:
        typer.echo(f"written to {write_metrics(out, scores, kind='reader study', key=secret.sha256, margin=margin)}")


@turing_app.command()
def machine(
    data: Data,
    synthetic: Synthetic,
    split: Split = "test",
    size: Annotated[int, typer.Option(min=32, max=4096, help="px at which they are shown.")] = 192,
    turns: Annotated[
        int, typer.Option(min=2, max=20, help="Parts of the joints that are tested one after another.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of how they are shown, split and learnt.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the numbers, as JSON.")] = None,
) -> None:
    """Ask classifiers, as real and synthetic images are shown to people; minutes."""
    from lsn_core import machine as asked
    from lsn_core.results import write_metrics
    from lsn_core.turing import shown_samples

    made, real, known = shown_samples(data, synthetic, split=split, size=size, seed=seed)
    answers = asked.with_null(made, real, turns=turns, seed=seed)
    typer.echo(asked.report(answers))
    numbers = {name: {kind: one[kind] for kind in asked.KINDS} for name, one in answers.items()}
    if out:
        known |= {"split": split, "size": size, "turns": turns, "seed": seed}
        typer.echo(f"written to {write_metrics(out, numbers, kind='machine reading', **known)}")
