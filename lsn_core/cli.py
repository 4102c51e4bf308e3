"""`lsn`: thin commands over the package. What is wrong with the input is one sentence on stderr and exit code 1."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lsn_core.cli_book import book_app
from lsn_core.cli_data import Split, data_app
from lsn_core.cli_downstream import downstream_app
from lsn_core.cli_images import images_app, pairs
from lsn_core.cli_turing import turing_app
from lsn_core.files import InputError
from lsn_core.signals import tell

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="""Separate radiographs of finger joints into soft tissue, lower bone and upper bone.

    A first visit: "lsn phantom phantoms" draws joints whose truth is known, "lsn train runs/first --data phantoms
    --profile quick" learns to separate them, "lsn evaluate runs/first --data phantoms" measures it. Radiographs of
    one's own need no masks: "lsn separate FOLDER --out layers", "lsn synthesize --data FOLDER --out synthetic".

    Data are a folder with a manifest.csv, which "lsn data init" writes for images of one's own, the BLS-GAN release,
    RAM-H1200, or a packed file.

    Research only: not a medical device.""",
)
app.add_typer(data_app, name="data")
app.add_typer(images_app)
app.add_typer(turing_app, name="turing")
app.add_typer(downstream_app, name="downstream")
app.add_typer(book_app)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write, in the layout of one's own radiographs.")],
    count: Annotated[int, typer.Option(min=1, help="How many joints; the fingers take turns.")] = 40,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Sides in px; the field is 21 mm.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first joint; the others follow.")] = 0,
    diseased: Annotated[float, typer.Option(min=0, max=1, help="Share of them with rheumatoid arthritis.")] = 0.5,
    visits: Annotated[int, typer.Option(min=1, help="Radiographs of each, at later and later visits.")] = 1,
    as_film: Annotated[
        bool, typer.Option("--as-film", help="Blur, noise, scatter and JPEG in the images, as of real radiographs.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds a data set already.")] = False,
) -> None:
    """Draw phantoms: 16-bit images, masks, layers, and a manifest.csv with the true joint space widths."""
    from lsn_core.detector import COMPUTED_RADIOGRAPHY, PERFECT
    from lsn_core.export import write_phantoms

    detector = COMPUTED_RADIOGRAPHY if as_film else PERFECT
    drawing = {"count": count, "size": size, "seed": seed, "diseased": diseased, "times": visits}
    typer.echo(write_phantoms(out, **drawing, detector=detector, force=force))


@app.command()
def train(
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run: config, log, checkpoints, weights, metrics.")],
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Folder or packed file; none where all stages show phantoms.")
    ] = None,
    profile: Annotated[str, typer.Option(help="quick, laptop, paper, or the path of a .yaml.")] = "laptop",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one training setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="GPUs of each node, or processes where there is none.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes; a scheduler starts the processes on each.")] = 1,
) -> None:
    """Train the three networks on the "train" split. Ctrl-C saves; --resume goes on where it stopped."""
    from lsn_core.config import Config, make_config
    from lsn_core.profile import load_profile
    from lsn_core.run import leads, train_run

    if resume and settings:
        raise InputError("--set with --resume: a run keeps its settings; leave --set out, or train in another folder")
    sources = ((f"profile {profile}", load_profile(profile)["train"]), ("--set", pairs(settings or [])))
    config = Config() if resume else make_config(*sources)
    launch = {"devices": devices, "nodes": nodes}
    try:
        done = train_run(run_dir, data, config, profile=profile, resume=resume, **launch, tell=tell)
    except InputError:
        if leads():
            raise
        raise typer.Exit(1) from None
    again = ["lsn", "train", str(run_dir), *(["--data", data] if data else []), "--resume"]
    again += [word for name, n in (("--devices", devices), ("--nodes", nodes)) if n > 1 for word in (name, str(n))]
    stopped = f"stopped and saved; go on: {shlex.join(again)}"
    if leads():
        typer.echo(f"{run_dir}: trained; measure it with 'lsn evaluate'" if done else stopped)


@app.command("train-masks")
def train_masks(
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run: checkpoints, metrics, and outlines.safetensors.")],
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Folder or packed file of drawn masks; none: phantoms only.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of 16 images, a fifth of them with phantoms alone.")] = 5000,
    phantoms: Annotated[int, typer.Option(min=1, help="How many to draw.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and lessons.")] = 0,
) -> None:
    """Train the network that draws masks, on phantoms first, then on the "train" split. The same line goes on."""
    from lsn_core.segmentation_training import Schooling, train_outliner

    schooling = Schooling(steps=steps, alone=steps // 5, phantoms=phantoms, seed=seed)
    typer.echo(f"{train_outliner(run_dir, data, schooling)}: trained; use it with --outlines")


@app.command()
def ablate(
    runs: Annotated[Path, typer.Argument(help="Folder for the runs, one folder VARIANT_SEED each.")],
    data: Annotated[str, typer.Option(metavar="PATH", help="Folder or packed file with a train and a test split.")],
    plan: Annotated[Path | None, typer.Option(help="YAML of variants; default the project's own.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Only this variant; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; repeatable.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of all; repeatable.")
    ] = None,
    phantoms: Annotated[int, typer.Option(min=2, max=10_000, help="Held-out phantoms, whose layers are known.")] = 100,
) -> None:
    """Train the variants of an ablation, measure them, and put them side by side. The same line goes on after Ctrl-C.

    Several machines may share the work: give each other variants or seeds, and the last one all.
    """
    from lsn_core import ablation, ranking
    from lsn_core.results import write_metrics

    asked = ablation.read_plan(plan, settings=pairs(settings or [])).part(variant or [], seed or [])
    if not ablation.train_plan(runs, data, asked, tell=tell):
        typer.echo("stopped and saved; the same command goes on")
        raise typer.Exit
    ablation.measure_plan(runs, data, asked, held_out=phantoms, tell=tell)
    results = ranking.gather_board(runs, asked)
    typer.echo(ranking.report(results))
    known = {"seeds": list(asked.seeds), "phantoms": phantoms} | ranking.origin(runs, asked)
    typer.echo(f"written to {write_metrics(runs / 'ablation.json', results, kind='ablation', **known)}")


@app.command()
def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            help='A run\'s folder, a weights file, a shipped name, or a baseline: "harmonic", "cut", "deep-prior".'
        ),
    ],
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Folder or packed file to measure on; phantoms alone without it.")
    ] = None,
    split: Split = "test",
    size: Annotated[
        int | None, typer.Option(min=32, max=4096, help="Sides of the frames in px; default its own.")
    ] = None,
    phantoms: Annotated[int, typer.Option(min=0, max=10_000, help="Held-out phantoms, whose layers are known.")] = 100,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train networks to find bones in the soft tissue: half a minute each.")
    ] = False,
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Inception weights: FID and KID of the recomposed data, too.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default metrics_SPLIT.json in the run, or here WHAT_SPLIT.json.")
    ] = None,
) -> None:
    """Measure a generator: the paper's Table 1 on data, layer truth on phantoms, bone left in the soft tissue."""
    from lsn_core.evaluation import evaluate_run, report

    asked = {"data": data, "split": split, "size": size, "held_out": phantoms, "probes": probe, "weights": inception}
    results, path = evaluate_run(what, **asked, out=out)
    typer.echo(report(results))
    typer.echo(f"written to {path}")


def main() -> None:
    """Run `lsn`, turning errors that the user can act on into one sentence and exit code 1."""
    try:
        app()
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
