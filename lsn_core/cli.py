"""`lsn`: thin commands over the package. What is wrong with the input is one sentence on stderr and exit code 1."""

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from lsn_core.files import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="""Separate radiographs of finger joints into soft tissue, lower bone and upper bone.

    A first visit: "lsn phantom phantoms" draws joints whose truth is known, "lsn train runs/first --data phantoms
    --profile quick" learns to separate them, "lsn evaluate runs/first --data phantoms" measures it.

    Data are a folder with a manifest.csv, the BLS-GAN release, or a packed file.

    Research only: not a medical device.""",
)
data_app = typer.Typer(no_args_is_help=True, help="Check and pack data sets.")
app.add_typer(data_app, name="data")

Data = Annotated[str, typer.Option("--data", metavar="PATH", help="Folder or packed file that holds the data set.")]
Split = Annotated[str, typer.Option(help='Part of the data set: "train", "test", "all", or a list of its own.')]


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write, in the layout of one's own radiographs.")],
    count: Annotated[int, typer.Option(min=1, help="How many joints; the fingers take turns.")] = 40,
    size: Annotated[int, typer.Option(min=16, help="Sides in px; the field is 21 mm.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first joint; the others follow.")] = 0,
) -> None:
    """Draw phantoms: 16-bit images, masks, layers, and a manifest.csv with the true joint space widths."""
    from lsn_core.export import write_phantoms

    typer.echo(write_phantoms(out, count=count, size=size, seed=seed))


@data_app.command("check")
def data_check(path: Annotated[Path, typer.Argument(help="Folder or packed file.")], split: Split = "all") -> None:
    """Decode every radiograph and mask of a data set; list what cannot be used, and why. Exit code 1 if anything."""
    from lsn_core.data import check, open_dataset
    from lsn_core.results import counts

    dataset = open_dataset(path, split=split)
    typer.echo(counts(dataset.rows))
    splits = Counter(split for row in dataset.rows for split in row.splits)
    typer.echo("splits: " + ", ".join(f"{name} {number}" for name, number in sorted(splits.items())))
    typer.echo(f"pixel spacing known of {sum(row.spacing_mm is not None for row in dataset.rows)}")
    problems = check(dataset)
    for _, reason in problems:
        typer.echo(f"error: {reason}", err=True)
    typer.echo(f"{len(dataset) - len(problems)} of {len(dataset)} radiographs can be used")
    raise typer.Exit(1 if problems else 0)


@data_app.command("pack")
def data_pack(
    path: Annotated[Path, typer.Argument(help="Folder that holds the data set.")],
    out: Annotated[Path, typer.Argument(help="File to write, ending in .safetensors.")],
    split: Split = "all",
) -> None:
    """Write a data set as one file: the images' own bytes and 1-bit masks. Refuses a data set with a damaged file."""
    from lsn_core.data import open_dataset, pack

    dataset = open_dataset(path, split=split)
    pack(dataset, out)
    typer.echo(f"{out}: {len(dataset)} radiographs, {out.stat().st_size / 1e6:.1f} MB")


@app.command()
def train(
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run: config, log, checkpoint, weights, metrics.")],
    data: Data,
    profile: Annotated[str, typer.Option(help="quick, laptop, paper, or the path of a .yaml.")] = "laptop",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one training setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")] = False,
) -> None:
    """Train the three networks on the "train" split. Ctrl-C saves; --resume goes on where it stopped."""
    from lsn_core.config import make_config
    from lsn_core.profile import load_profile
    from lsn_core.run import train_run

    config = make_config((f"profile {profile}", load_profile(profile)["train"]), ("--set", pairs(settings or [])))
    done = train_run(run_dir, data, config, profile=profile, resume=resume)
    again = shlex.join(["lsn", "train", str(run_dir), "--data", data, "--resume"])
    typer.echo(f"{run_dir}: trained; measure it with 'lsn evaluate'" if done else f"stopped and saved; go on: {again}")


@app.command()
def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Data,
    split: Split = "test",
    out: Annotated[Path | None, typer.Option(help="File to write; default RUN_DIR/metrics_SPLIT.json.")] = None,
) -> None:
    """Print the paper's Table 1, one row a finger and one overall, and write it with provenance as metrics.json."""
    from lsn_core.evaluation import EXACT, LEGEND, evaluate_run, table_1
    from lsn_core.networks import load_generator

    results, path = evaluate_run(run_dir, data, split, out or run_dir / f"metrics_{split}.json")
    typer.echo(table_1(results))
    typer.echo(LEGEND)
    if load_generator(run_dir).recipe.head == "partition":
        typer.echo(EXACT)
    typer.echo(f"written to {path}")


@app.command()
def separate(
    images: Annotated[list[Path], typer.Argument(help="Radiographs: PNG, JPEG, BMP, TIFF or .npy.")],
    out: Annotated[Path, typer.Option(help="Folder for STEM_soft.png, STEM_lower.png, STEM_upper.png (16-bit).")],
    weights: Annotated[str, typer.Option(help="A shipped generator's name, a run's folder, or a file.")] = "compact",
    lower: Annotated[Path | None, typer.Option(help="Mask of the lower bone, for a single image.")] = None,
    upper: Annotated[Path | None, typer.Option(help="Mask of the upper bone, for a single image.")] = None,
) -> None:
    """Separate radiographs into layers. Masks lie beside each image as STEM_mask_lower.* and STEM_mask_upper.*."""
    from lsn_core.export import separate_files

    for line in separate_files(images, out, weights=weights, lower=lower, upper=upper):
        typer.echo(line)


@app.command("run")
def run_command(
    notebook: Annotated[Path, typer.Argument(help="Notebook with a cell tagged parameters.")],
    out: Annotated[Path, typer.Option(help="Where the executed copy goes; a failed one becomes .failed.ipynb.")],
    profile: Annotated[str | None, typer.Option(help="quick, laptop, paper, or the path of a .yaml.")] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="Set a parameter; repeatable.")
    ] = None,
) -> None:
    """Execute a notebook with papermill, strictly: unknown parameters and values of another type are refused."""
    from lsn_core.notebook import run_notebook

    typer.echo(run_notebook(notebook, out, parameters=pairs(parameters or []), profile=profile))


@app.command()
def book(
    profile: Annotated[str, typer.Option(help="quick, laptop, paper, or the path of a .yaml.")] = "quick",
    force: Annotated[bool, typer.Option("--force", help="Execute all notebooks, changed or not.")] = False,
) -> None:
    """Execute the notebooks and build the book, from the root of a checkout."""
    from lsn_core.book import build_book

    typer.echo(f"the book is at {build_book(Path.cwd(), profile=profile, force=force)}")


def pairs(settings: list[str]) -> dict[str, str]:
    """key=value texts as a dict. Raises `InputError` for one without "="."""
    for setting in settings:
        if "=" not in setting:
            raise InputError(f"{setting!r}: not of the form key=value; write for example seed=3")
    return dict(setting.split("=", 1) for setting in settings)


def main() -> None:
    """Run `lsn`, turning errors that the user can act on into one sentence and exit code 1."""
    try:
        app()
    except InputError as error:
        sys.exit(f"error: {error}")
    except FloatingPointError as error:
        sys.exit(f"error: the training broke down at {error}; lower the learning rates with --set lr_generator=1e-4")


if __name__ == "__main__":
    main()
