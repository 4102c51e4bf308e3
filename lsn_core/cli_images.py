"""`lsn` on radiographs of one's own: masks, layers, other joint space widths, and synthetic data sets.

What cannot be used is told on stderr, one sentence each, and the rest is done; the exit code is then 1.
"""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from lsn_core.files import InputError

images_app = typer.Typer()

Moving = StrEnum("Moving", {name.upper(): name for name in ("both", "upper", "lower")})
PlanName = StrEnum("PlanName", {name.upper(): name for name in ("uniform", "matched", "around")})
Paths = Annotated[list[Path], typer.Argument(help="Radiographs (PNG, JPEG, BMP, TIFF, .npy, DICOM), or folders.")]
Weights = Annotated[str, typer.Option(help="A shipped generator's name, a run's folder, or a file.")]
Outlines = Annotated[str, typer.Option(help="What draws masks that nobody drew: the shipped outliner, or a file.")]
Spacing = Annotated[
    float | None, typer.Option(min=0.001, max=5, help="mm per pixel, of images whose file does not say so.")
]


def told(lines: Iterable[object], what: str) -> None:
    """Print what became of each image; exit with 1 where some were refused."""
    from lsn_core.intake import Refused

    done, refused = 0, 0
    for line in lines:
        bad = isinstance(line, Refused)
        done, refused = done + (not bad), refused + bad
        typer.echo(f"error: {line.why}" if bad else line, err=bad)
    summed(done, refused, what)


def summed(done: int, refused: int, what: str) -> None:
    """The last line, and the exit code."""
    typer.echo(f"{done} of {done + refused} radiographs {what}" + (f"; {refused} refused" if refused else ""))
    if refused:
        raise typer.Exit(1)


@images_app.command()
def masks(
    images: Paths,
    outlines: Outlines = "outlines",
    force: Annotated[bool, typer.Option("--force", help="Draw those again that have masks.")] = False,
) -> None:
    """Draw masks of radiographs, as STEM_mask_lower.png and STEM_mask_upper.png beside each, to look at and mend."""
    from lsn_core.separation import draw_files

    told(draw_files(images, outlines=outlines, force=force), "have masks")


@images_app.command()
def separate(
    images: Paths,
    out: Annotated[Path, typer.Option(help="Folder for STEM_soft.png, STEM_lower.png, STEM_upper.png (16-bit).")],
    weights: Weights = "compact",
    outlines: Outlines = "outlines",
    lower: Annotated[Path | None, typer.Option(help="Mask of the lower bone, for a single image.")] = None,
    upper: Annotated[Path | None, typer.Option(help="Mask of the upper bone, for a single image.")] = None,
) -> None:
    """Separate radiographs into layers. Masks beside an image, as STEM_mask_lower.*, are used; else they are drawn."""
    from lsn_core.separation import separate_files

    told(separate_files(images, out, weights=weights, outlines=outlines, drawn=(lower, upper)), "separated")


@images_app.command()
def adjust(
    image: Annotated[Path, typer.Argument(help="Radiograph of one joint.")],
    jsw_mm: Annotated[float, typer.Option(min=-8, max=12, help="Joint space width to show; negative: overlap.")],
    out: Annotated[Path, typer.Option(help="File to write, a 16-bit .png.")],
    moving: Annotated[Moving, typer.Option(help="Which bones move.")] = Moving.BOTH,
    slide_mm: Annotated[float, typer.Option(help="Shift of the upper bone to the right.")] = 0.0,
    degrees: Annotated[float, typer.Option(help="Turn of the upper bone, counter-clockwise.")] = 0.0,
    spacing_mm: Spacing = None,
    weights: Weights = "compact",
    outlines: Outlines = "outlines",
) -> None:
    """Show a joint with another joint space width."""
    from lsn_core.movement import MOVING, Movement
    from lsn_core.separation import adjust_file

    by = Movement(share=MOVING[moving], slide_mm=(0.0, slide_mm), degrees=(0.0, degrees))
    typer.echo(adjust_file(image, out, jsw_mm, by, weights=weights, outlines=outlines, spacing_mm=spacing_mm))


@images_app.command()
def explore(
    image: Annotated[Path, typer.Argument(help="Radiograph of one joint.")],
    out: Annotated[Path, typer.Option(help="File to write, a .html.")],
    spacing_mm: Spacing = None,
    weights: Weights = "compact",
    outlines: Outlines = "outlines",
) -> None:
    """Write a page in which the bones of a radiograph can be moved by hand; it needs neither a network nor Python."""
    from lsn_core.separation import explore_file

    typer.echo(explore_file(image, out, weights=weights, outlines=outlines, spacing_mm=spacing_mm))


@images_app.command()
def synthesize(
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Data set, or a folder of radiographs that nothing lists.")
    ],
    out: Annotated[Path, typer.Option(help="New folder, or one packed file that ends in .safetensors.")],
    copies: Annotated[int, typer.Option(min=1, help="Images made of each radiograph.")] = 8,
    plan: Annotated[PlanName, typer.Option(help="Widths: uniform, as --like, or around each joint's own.")] = (
        PlanName.UNIFORM
    ),
    low_mm: Annotated[float, typer.Option(help="Narrowest joint space of a uniform plan.")] = 0.0,
    high_mm: Annotated[float, typer.Option(help="Widest; the default gives each SvdH-like class a fifth.")] = 2.1875,
    like: Annotated[Path | None, typer.Option(help="A .csv with a column jsw_mm whose histogram to match.")] = None,
    spread_mm: Annotated[float, typer.Option(help="Largest change of the plan around.")] = 0.5,
    slide_mm: Annotated[float, typer.Option(help="Largest shift of each bone across the joint.")] = 0.2,
    degrees: Annotated[float, typer.Option(help="Largest turn of each bone.")] = 2.0,
    moving: Annotated[Moving, typer.Option(help="Which bones make the change.")] = Moving.BOTH,
    size: Annotated[int | None, typer.Option(min=32, max=4096, help="px of the images; default their own.")] = None,
    split: Annotated[str, typer.Option(help='Part of a data set: "train", "test", "all".')] = "all",
    seed: Annotated[int, typer.Option(min=0, help="Of widths, shifts and turns.")] = 0,
    spacing_mm: Spacing = None,
    weights: Weights = "compact",
    outlines: Outlines = "outlines",
) -> None:
    """Make a labelled data set of joints at other widths: 16-bit PNG, masks, manifest.csv and labels.csv.

    The same line goes on after Ctrl-C. Every image can be made again from its row of labels.csv.
    """
    from lsn_core.intake import candidates
    from lsn_core.labels import LABELS, read_labels, tally
    from lsn_core.production import Maker, packed, produce, workplace
    from lsn_core.sampling import Plan, read_widths
    from lsn_core.separation import outliner_of

    widths = {"low_mm": low_mm, "high_mm": high_mm, "spread_mm": spread_mm, "like": read_widths(like) if like else ()}
    moves = {"slide_mm": slide_mm, "degrees": degrees, "moving": str(moving), "seed": seed}
    maker = Maker.of(weights, Plan(str(plan), copies, **widths, **moves), size=size, outlines=outlines)
    folder, refused = workplace(out), []
    some = list(candidates(data, outliner_of(outlines), split=split, spacing_mm=spacing_mm, out=folder))
    try:
        made = sum(produce(folder, tqdm(some, desc="synthesis", unit="radiograph"), maker, told=refused.append))
    except KeyboardInterrupt:
        typer.echo("stopped; what is done is whole, and the same command goes on", err=True)
        raise typer.Exit(130) from None
    finally:
        for one in refused:
            typer.echo(f"error: {one.why}", err=True)
    typer.echo(f"{out}: {len(rows := read_labels(folder / LABELS))} images, {made} of them new; {tally(rows)}")
    if folder != out:
        packed(folder, out)
    summed(len(some) - len(refused), len(refused), "synthesised")


def pairs(settings: list[str]) -> dict[str, str]:
    """key=value texts as a dict. Raises `InputError` for one without "="."""
    for setting in settings:
        if "=" not in setting:
            raise InputError(f"{setting!r}: not of the form key=value; write for example seed=3")
    return dict(setting.split("=", 1) for setting in settings)
