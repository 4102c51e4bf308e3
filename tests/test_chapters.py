"""The chapters: what every notebook must have and must not have, and what the quick run of each must find."""

import ast
import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SPOKEN = (
    "print(",
    "show_explorer(",
    "explorer_widget(",
    "rater_widget(",
)  # last lines whose output is text or a page's own figure


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request) -> Path:
    return request.param


def test_there_are_chapters():
    assert len(CHAPTERS) >= 2


def test_sources_carry_no_outputs(chapter):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(chapter, "code"))


def test_one_parameters_cell_of_annotated_literals(chapter):
    tagged = [cell for cell in cells(chapter, "code") if "parameters" in tags(cell)]
    assert len(tagged) == 1
    lines = source(tagged[0]).splitlines()
    assert len(lines) <= 10
    assert all(re.search(r"  # \w", line) for line in lines), "each parameter says its unit and meaning"
    body = ast.parse(source(tagged[0])).body
    assert all(isinstance(statement, ast.AnnAssign) for statement in body)
    assert {"seed", "out_dir", "data_dir"} <= {statement.target.id for statement in body}


def test_code_is_thin(chapter):
    for cell in cells(chapter, "code"):
        text = "\n".join(line for line in source(cell).splitlines() if not line.startswith("%"))
        assert len(source(cell).splitlines()) <= 20, source(cell)
        nodes = list(ast.walk(ast.parse(text)))
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in nodes), source(cell)


def test_prose_leads_and_there_is_an_exercise_a_recap_and_one_title(chapter):
    prose = [source(cell) for cell in cells(chapter, "markdown")]
    assert prose[0].startswith("# ")
    assert sum(line.startswith("# ") for text in prose for line in text.splitlines()) == 1
    whole = "\n".join(prose)
    for needed in (
        "**You will learn**",
        "Before you start",
        "**Time**",
        "```{exercise}",
        ":class: dropdown",
        "## Recap",
    ):
        assert needed in whole, needed


def test_every_figure_has_a_caption_a_name_and_an_alternative_text(chapter):
    words = (
        r"\w+_figure|\w*curves|\w+_grids?|image_row|labelled|outlined|agreement|bands|hand_map|show_explorer"
        r"|explorer_widget|rater_widget|live\.draw"
    )
    figures = re.compile(rf"^({words})\(", re.MULTILINE)
    for cell in cells(chapter, "code"):
        if figures.search(source(cell)):
            shown = cell["metadata"]["mystnb"]
            assert len(shown["figure"]["caption"]) > 20 and shown["figure"]["name"].startswith("fig-")
            assert len(shown["image"]["alt"]) > 20


def test_the_last_cell_writes_the_metrics(chapter):
    assert "metrics.json" in source(cells(chapter, "code")[-1])


def found(book: Path, chapter: str) -> dict:
    return json.loads((book / "runs" / chapter / "metrics.json").read_text())["metrics"]


def test_quick_imaging_principles(book):
    metrics = found(book, "01_imaging_principles")
    assert metrics["adjusted_psnr_db"] > 34, "a joint moved by Eq. 13 is the joint drawn at the new width"
    assert metrics["recomposed_psnr_db"] > 120, "the shipped layers compose to the picture"
    assert abs(metrics["shadow_contrast"]) < 0.2, "the shipped network leaves less than a third of the bones' contrast"


def test_quick_pseudo_images(book):
    metrics = found(book, "03_pseudo_images")
    beside, fill, black = metrics["mean_brightness"].values()
    assert abs(fill - beside) < 0.03 and black < 0.8 * beside, "without flux a fill stays with the flesh beside it"
    assert metrics["replayed"] and metrics["hand_fill_error"] < 1e-6
    assert abs(metrics["truth"]["bias"]) < 0.005 and metrics["truth"]["rmse"] < 0.02, "close to a true overlap"
    blur, others = metrics["violations"].pop("blur"), metrics["violations"].items()
    assert blur["drawn"] < -0.01 and abs(blur["widened"]) < 0.003, "widening brings a blurred edge back"
    assert all(abs(bias["widened"]) < 0.01 for _, bias in others), "and nothing else does much"
    assert metrics["ring"]["Eq. 10"] < -0.06, "the ring is off where Eq. 10 is exact: by more than on the radiographs"


def test_quick_joints_and_data(book):
    metrics = found(book, "02_joints_and_data")
    jsw, gap = metrics["jsw_error_mm"], metrics["gap_error_mm"]
    assert abs(jsw["mean"]) < 0.15 and jsw["sd"] < 0.25, "the joint space is measured on true layers"
    assert gap["mean"] < jsw["mean"] - 0.5, "the gap between masks is not the joint space"
    assert metrics["joints"] == 40 and metrics["findings"] == 1, "the exchanged masks are found, and nothing else"
    assert all(15 < psnr < 40 for psnr in metrics["violation_psnr_db"].values()), "each violation changes the picture"


def test_quick_training_learns(book):
    metrics = found(book, "04_two_stage_training")
    before, after = metrics["before"], metrics["after"]
    assert metrics["rounds"] == 190 and after["psnr_db"] > 120, "both stages, and reconstruction stays exact"
    for name in ("shadow", "bones", "truth"):
        assert after[name] < 0.75 * before[name], "a minute of play improves each number of held-out joints"


def test_quick_training_shows_what_each_term_does(book):
    metrics = found(book, "04_two_stage_training")
    scores = {
        off: [metrics["without"][off][name] for name in ("shadow", "bones", "truth")] for off in metrics["without"]
    }
    shadow, bones, truth = scores.pop("nothing")
    assert scores["bones"][1] > 1.2 * bones, "without L3 the overlap is divided worse"
    assert scores["anchor"][0] > 1.5 * shadow and scores["anchor"][2] > 1.3 * truth, "nothing else says what flesh is"
    assert scores["anchor"][1] < bones, "and L3 does not notice"
    for off in ("supervision", "softness"):
        assert scores[off] == pytest.approx([shadow, bones, truth], rel=0.2), "too slow to be seen in a minute"


def test_quick_training_goes_below_chance_with_the_papers_loss(book):
    pulled = found(book, "04_two_stage_training")["pulled"]
    assert pulled["paper"] > pulled["chance"] + 0.2, "an opponent that does not learn is made confidently wrong"
    assert abs(pulled["bounded"] - pulled["chance"]) < abs(pulled["paper"] - pulled["chance"]), (
        "by the bounded one less"
    )


def test_quick_reconstruction_is_perfect_without_separation_and_the_truth_knows(book):
    metrics = found(book, "05_reconstruction")
    recomposed, layers, traces = metrics["table_1"], metrics["truth"], metrics["traces"]
    fraud = "all is flesh"
    assert recomposed[fraud]["psnr_db"] >= recomposed["shipped"]["psnr_db"] > 120 > recomposed["cut out"]["psnr_db"]
    assert layers[fraud]["soft_mask_psnr_db"] < 15 < 27 < layers["shipped"]["soft_mask_psnr_db"]
    for name in ("lower", "upper"):
        halved = layers["closed form"][f"{name}_overlap_psnr_db"]
        assert layers["shipped"][f"{name}_overlap_psnr_db"] > halved + 4, "the network has learnt whose the overlap is"
    assert metrics["shuffled_row_frechet"] < 1e-6, "rows have no order"
    assert traces[fraud]["grain_db"] > 4 > traces["shipped"]["grain_db"] and traces["(truth)"]["shade_auc"] > 0.55
    assert all(
        metrics["rendered"]["(true layers)"][change] > other[change] + 1
        for change in metrics["rendered"]["cut out"]
        for name, other in metrics["rendered"].items()
        if name != "(true layers)"
    )


def test_quick_ablation_trains_measures_and_ranks(book):
    metrics = found(book, "06_ablation")
    live = metrics["live"]
    assert metrics["trained"] and set(live) == {"baseline", "proposed", "anchored"}
    assert live["anchored"]["psnr_hand_db"] > 120 > live["baseline"]["psnr_hand_db"]
    assert live["anchored"]["film_layer_error"] < live["baseline"]["film_layer_error"]
    assert len(metrics["ranked"]) == 16 and metrics["ranked"][-1] == "baseline"


def test_quick_adjusted_joints_are_true_and_labelled(book):
    metrics = found(book, "07_adjustable_jsw")
    assert metrics["refused"] == {
        name: name != "upright" for name in ("upright", "upside down", "on its side", "negative", "noise")
    }
    assert all(abs(bias) < 0.15 for curve in metrics["curves"]["bias_mm"].values() for bias in curve)
    assert min(metrics["curves"]["band_db"]["shipped"]) > 28
    plain, continued = (metrics["defects"][name]["grain"] for name in ("last row repeated", "continued"))
    assert plain < 0.1 and continued > 0.5, "a repeated row has no grain from top to bottom"
    shares = [metrics["classes"].count(k) / len(metrics["classes"]) for k in range(5)]
    assert all(abs(share - 0.2) < 0.06 for share in shares), "each class a fifth"
    assert metrics["replayed"] < 1e-5 and abs(metrics["label_error_mm"]["mean"]) < 0.15


def test_quick_turing_test_is_blind_and_scored(book):
    metrics = found(book, "08_visual_turing_test")
    assert metrics["leaks"] == [] and metrics["refused"] == 0 and metrics["images"] == 40
    assert metrics["simulated"] and len(metrics["readers"]) == 5
    assert metrics["paper"] == dict.fromkeys(("R1", "R2", "R3", "R4"), "detected") | {"R5": "undecided"}
    assert 0.3 < metrics["machine"]["low"] < metrics["machine"]["high"] <= 1


def test_quick_progression_is_measured_and_its_limits_shown(book):
    metrics = found(book, "09_jsn_progression")
    before, after = metrics["unlike"]
    assert after < 0.3 * before and abs(metrics["registered_mm"] - metrics["true_mm"]) < 0.2
    bent = metrics["bent"]
    assert bent["at the head's middle"][-1] < 0.6 * bent["difference of both dy"][-1], "a bent finger is no narrowing"
    errors = metrics["classical_mae_mm"]
    assert errors["intensity"] < errors["phase correlation"] < errors["no change at all"]
    assert metrics["still"] == {"sigma_mm": 0, "phase_sigma_mm": 0} and metrics["closure_mm"]["always 0"] == 0
    assert metrics["closure_mm"]["0.36 directly instead of 0.30"] > 0.02 and metrics["done"]


def test_quick_regression_learns_widths(book):
    metrics = found(book, "10_jsw_regression")
    assert metrics["done"] and metrics["cut_differs"] > 0
    assert all(one["mae_mm"]["mean"] < 0.35 for one in metrics["tiny"].values()), "better than the mean of all widths"
    assert abs(metrics["annotator"]["bias_mm"]) < 0.15 and 0.3 < metrics["coverage"]["overlap"] < 0.9


def test_quick_score_and_what_flatters(book):
    metrics = found(book, "11_svdh_score")
    by_hand = metrics["by_hand"]
    assert by_hand["always wrong"]["accuracy"] == pytest.approx(0.6) and by_hand["always wrong"]["top1"] == 0
    assert by_hand["30 % two classes off"]["quadratic_kappa"] < by_hand["30 % one class off"]["quadratic_kappa"] - 0.1
    assert 0.05 < metrics["changed"]["0.05"] < metrics["changed"]["0.1"] < 0.25 and metrics["edge"] > 0.5
    assert abs(sum(metrics["classes"]["healthy"]) - 1) < 1e-9


def test_quick_sweep_is_not_trained_twice(book):
    metrics = found(book, "12_reduced_annotations")
    first, second = metrics["seconds"]
    assert metrics["runs"] == 4 and metrics["trained_again"] == 0 and second < 0.1 * first
    assert {one["task"] for one in metrics["worth"]["phantoms"]} == {"jsn", "jsw", "svdh"}


def test_quick_metrics_are_the_expected_ones(book):
    from lsn_core.expectations import compare_runs, expected_path, report

    compared = compare_runs(book / "runs", expected_path(ROOT / "notebooks", "quick"))
    assert not any(compared.values()), report(compared)
