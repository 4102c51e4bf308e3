"""Tables of downstream results, the paper's Table 4 beside ours among them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lsn_core.downstream import CONTROL, PRETRAINED
from lsn_core.results import interval, table

Settings = Sequence[Mapping[str, Any]]

COLUMNS = {  # of each task: score, heading and format
    "jsn": (
        ("sigma_mm", "sigma mm", "{:.4f}"),
        ("phase_sigma_mm", "sigma' mm", "{:.4f}"),
        ("mse", "image MSE", "{:.5f}"),
        ("mismatch", "mismatch", "{:.3f}"),
        ("mae_mm", "MAE mm", "{:.4f}"),
        ("bias_mm", "bias mm", "{:+.4f}"),
        ("mae_both_ways_mm", "MAE both ways", "{:.4f}"),
        ("r", "r", "{:.2f}"),
        ("rank_r", "rank r", "{:.2f}"),
    ),
    "jsw": (
        ("mae_px", "MAE px", "{:.2f}"),
        ("mse_px2", "MSE px²", "{:.2f}"),
        ("mae_mm", "MAE mm", "{:.3f}"),
        ("r2", "R²", "{:.3f}"),
        ("evs", "EVS", "{:.3f}"),
        ("bias_mm", "bias mm", "{:+.3f}"),
        ("lower_limit_mm", "lower limit", "{:+.3f}"),
        ("upper_limit_mm", "upper limit", "{:+.3f}"),
        ("icc_2_1", "ICC(2,1)", "{:.3f}"),
        ("sdc_mm", "SDC mm", "{:.3f}"),
    ),
    "svdh": (
        ("accuracy", "one-vs-rest", "{:.4f}"),
        ("sensitivity", "sens.", "{:.3f}"),
        ("specificity", "spec.", "{:.3f}"),
        ("precision", "prec.", "{:.3f}"),
        ("f1", "F1", "{:.3f}"),
        ("top1", "top-1", "{:.3f}"),
        ("balanced_accuracy", "balanced", "{:.3f}"),
        ("quadratic_kappa", "kappa", "{:.3f}"),
        ("ordinal_mae", "MAE", "{:.3f}"),
    ),
}

LEGEND = """mean ± SD over seeds. sigma: scatter of ten answers to one pair; sigma': how far ways over a third visit
disagree; both ways: a pair and its reverse, averaged; r: correlation with the true change. Arms less the control:
below 0 is better; intervals draw seeds and whole joints again, p exchanges the arms joint by joint, Holm corrects
for tasks or arms. The share is that at which the pre-trained arm equals the control with all joints. Of a handful
of joints, none of this says much."""


def chosen(found: Settings, **wanted: Any) -> list[Mapping[str, Any]]:
    """The settings, contrasts or worths whose fields are as wanted."""
    return [one for one in found if all(one[key] == value for key, value in wanted.items())]


def scores_table(
    found: Mapping[str, Any], *, tasks: Iterable[str] = COLUMNS, share: float = 1.0, only: Sequence[str] = ()
) -> str:
    """One block a task: each network and arm at a share of the joints, mean ± SD over seeds.

    `only` names the scores to show; all of COLUMNS without it.
    """
    return "\n\n".join(_block(task, chosen(found["settings"], task=task, share=share), only) for task in tasks)


def _block(task: str, settings: Settings, only: Sequence[str]) -> str:
    """One task's settings, one row each."""
    columns = [column for column in COLUMNS[task] if not only or column[0] in only]
    rows = [[task, "seeds", *(heading for _, heading, _ in columns)]]
    for one in settings:
        cells = [score_cell(one["scores"][name], form) for name, _, form in columns]
        rows.append([f"{one['network']}, {one['arm']}", str(len(one["seeds"])), *cells])
    return table(rows)


def score_cell(score: Mapping[str, float | None], form: str) -> str:
    """Mean ± SD over seeds; "-" where it is not known."""
    if score["mean"] is None:
        return "-"
    return form.format(score["mean"]) + ("" if score["sd"] is None else f" ± {form.format(score['sd']).lstrip('+')}")


def arms_table(contrasts: Settings, *, against: str = CONTROL) -> str:
    """Each arm less the control: mean error, 95 % interval, p-value and that corrected by Holm."""
    rows = [["task, network, share", "arm", "error", "seeds", f"less {against} [95 %]", "p", "Holm"]]
    for one in contrasts:
        known = [f"{one['task']}, {one['network']}, {one['share']:.0%}", one["arm"], one["error"]]
        tests = ["-" if one.get(name) is None else f"{one[name]:.4f}" for name in ("p", "holm")]
        rows.append([*known, str(len(one["seeds"])), interval(one, "{:+.4f}"), *tests])
    return table(rows)


def worth_table(worths: Settings) -> str:
    """The share of joints at which the pre-trained arm equals the control with all of them; empty without a curve."""
    rows = [["task, network", "error", "share of the joints [95 %]", "samples that reach it"]]
    for one in worths:
        share, low, high = (
            "above 100 %" if one[key] is None else f"{one[key]:.0%}" for key in ("share", "low", "high")
        )
        cells = [one["error"], f"{share} [{low}, {high}]", f"{one['reached']:.0%}"]
        rows.append([f"{one['task']}, {one['network']}", *cells])
    return table(rows) if worths else ""


def table_4(paper: Mapping[str, Any], ours: Mapping[str, Mapping[str, Any]], *, network: str = "resnet") -> str:
    """The paper's Table 4 beside ours: each score without and with pre-training, for each cohort of ours."""
    rows = [["", "paper", "", *(cell for name in ours for cell in (name, ""))]]
    rows.append(["", *(["alone", "pre-trained"] * (1 + len(ours)))])
    for task, columns in COLUMNS.items():
        for name, heading, form in columns:
            known = [paper[task][arm].get(name) for arm in (CONTROL, PRETRAINED)]
            cells = ["-" if value is None else form.format(value) for value in known]
            for found in ours.values():
                cells += [_of(found, task, network, arm, name, form) for arm in (CONTROL, PRETRAINED)]
            rows.append([f"{task}: {heading}", *cells])
    return table(rows)


def _of(found: Mapping[str, Any], task: str, network: str, arm: str, name: str, form: str) -> str:
    """One score of one arm with all joints; "-" where it was not run."""
    some = chosen(found["settings"], task=task, network=network, arm=arm, share=1.0)
    return score_cell(some[0]["scores"][name], form) if some else "-"


def read_off_table(found: Settings) -> str:
    """Classes graded beside classes read off a width; empty without any."""
    rows = [["network, arm, share", "seeds", "top-1 graded", "read off", "wrong, graded less read off", "p"]]
    for one in sorted(found, key=lambda one: (one["network"], -one["share"], one["arm"])):
        cells = [score_cell(one[name], "{:.3f}") for name in ("graded", "read")]
        name = f"{one['network']}, {one['arm']}, {one['share']:.0%}"
        rows.append([name, str(len(one["seeds"])), *cells, interval(one, "{:+.3f}"), f"{one['p']:.4f}"])
    return table(rows) if found else ""
