"""`lsn data`: fetch, list, check, pack and compare data sets."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(no_args_is_help=True, help="Fetch, list, check and pack data sets.")

Release = StrEnum("Release", {"BLS_GAN": "bls-gan"})  # what can be fetched
Split = Annotated[str, typer.Option(help='Part of the data set: "train", "test", "all", or a list of its own.')]


@data_app.command("init")
def data_init(
    folder: Annotated[Path, typer.Argument(help="Folder that holds images and their masks, subfolders too.")],
    subject: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Who it is: the one group of it, found in an image's path.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a manifest.csv that is there.")] = False,
) -> None:
    """Write the manifest.csv of one's own images. Masks lie beside each as STEM_mask_lower.* and STEM_mask_upper.*."""
    from lsn_core.inventory import UNKNOWN_SUBJECTS, take_inventory

    inventory = take_inventory(folder, subject=subject, force=force)
    typer.echo("\n".join(inventory.told()))
    if subject is None:
        typer.echo(f"warning: {UNKNOWN_SUBJECTS}", err=True)
    typer.echo(f"{folder / 'manifest.csv'}: written; fill in what you know, then run 'lsn data check {folder}'")


@data_app.command("check")
def data_check(path: Annotated[Path, typer.Argument(help="Folder or packed file.")], split: Split = "all") -> None:
    """Decode every radiograph and mask of a data set; list all that is wrong, and why. Exit code 1 if anything."""
    from lsn_core.check import survey
    from lsn_core.results import counts

    found = survey(path, split=split)
    typer.echo(counts(found.dataset.rows))
    splits = Counter(split for row in found.dataset.rows for split in row.splits)
    typer.echo("splits: " + ", ".join(f"{name} {number}" for name, number in sorted(splits.items())))
    typer.echo(found.spacings())
    for finding in found.findings:
        typer.echo(f"error: {finding.reason}", err=True)
    typer.echo(f"{len(found.good)} of {found.total} radiographs can be used")
    raise typer.Exit(1 if found.findings else 0)


@data_app.command("pack")
def data_pack(
    path: Annotated[Path, typer.Argument(help="Folder that holds the data set.")],
    out: Annotated[Path, typer.Argument(help="File to write, ending in .safetensors.")],
    split: Split = "all",
) -> None:
    """Write a data set as one file: images without their metadata, 1-bit masks, and what the manifest says of them.

    Refuses a data set with a damaged file. Names of files, joints and subjects are kept, so let them be codes.
    """
    from lsn_core.check import survey
    from lsn_core.pack import pack, refuse_name

    refuse_name(out)
    found = survey(path, split=split)
    found.refuse_bad()
    pack(found.dataset, out)
    doubted = len(found.dataset) - len(found.good)
    if doubted:
        typer.echo(f"warning: {doubted} radiographs have doubtful masks, which 'lsn data check' lists", err=True)
    typer.echo(f"{out}: {len(found.dataset)} radiographs, {out.stat().st_size / 1e6:.1f} MB")


@data_app.command("fetch")
def data_fetch(
    release: Annotated[Release, typer.Argument(help="Which data set.")],
    dest: Annotated[Path, typer.Argument(help="Folder to make; absent, empty, or an incomplete copy.")],
    url: Annotated[str | None, typer.Option(help="Another address of the same archive, a file:///... too.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace missing or damaged files of DEST.")] = False,
) -> None:
    """Download a public data set and verify every file of it. A cut download goes on where it stopped."""
    from lsn_core.fetch import TERMS, URL, fetch

    typer.echo(TERMS)
    typer.echo(fetch(dest, url=url or URL, force=force))


@data_app.command("compare")
def data_compare(
    a: Annotated[Path, typer.Argument(help="Folder or packed file that is judged.")],
    b: Annotated[Path, typer.Argument(help="Folder or packed file that it is compared with.")],
    split_a: Annotated[str, typer.Option(help='Part of A, as "all" or "train".')] = "all",
    split_b: Annotated[str, typer.Option(help='Part of B, as "all" or "train".')] = "all",
    limit: Annotated[int | None, typer.Option(min=1, help="Draw so many radiographs of each; default all.")] = None,
    by_finger: Annotated[bool, typer.Option("--by-finger", help="Print a table of each finger too.")] = False,
    classifier: Annotated[bool, typer.Option(help="Train classifiers to tell A from B, in minutes.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is drawn, split and trained.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the numbers and their provenance, as JSON.")] = None,
) -> None:
    """How alike two data sets look: statistics side by side, and whether classifiers can tell them apart."""
    from lsn_core import compare, two_sample
    from lsn_core.results import write_metrics

    (first, known_a), (second, known_b) = (
        compare.measure_data(path, split=split, limit=limit, seed=seed, name=name)
        for name, path, split in (("A", a, split_a), ("B", b, split_b))
    )
    results = compare.compare(first, second)
    typer.echo(compare.report(results, by_finger=by_finger))
    if classifier:
        results["two_sample"] = two_sample.with_null(first, second, seed=seed)
        typer.echo(two_sample.report(results["two_sample"]))
    if out:
        typer.echo(f"written to {write_metrics(out, results, kind='comparison', a=known_a, b=known_b, seed=seed)}")
