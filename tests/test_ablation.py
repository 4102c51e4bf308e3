"""The ablation: its plan is balanced, its runs are folders that are left alone once they are done."""

import json
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from lsn_core import ablation
from lsn_core.ablation import MEASURED, TRAINED, measure_plan, read_plan, train_plan
from lsn_core.checkpoint import checkpoints
from lsn_core.config import Config
from lsn_core.files import InputError
from lsn_core.keeper import LAST
from lsn_core.networks import load_generator
from lsn_core.ranking import gather_board
from lsn_core.scene import Sources, per_epoch

PLAN = read_plan(None)
FACTORS = {
    "head": lambda config: config.head == "partition",
    "soft_tissue": lambda config: config.soft_tissue == "bounded",
    "widening": lambda config: config.dilate_px == 4.0,
    "phantoms_first": lambda config: config.stages[0].phantoms == 1.0,
}
TINY = {"size": 32, "batch": 2, "phantoms": 3, "validate_every": 1000, "precision": "32-true"}
TINY |= {"all.epochs": 1, "pseudo.epochs": 1, "real.epochs": 1, "phantoms.epochs": 1}


class Counts(Sources):
    """So many joints as the K1 training list has for learning, without their images."""

    def shown(self, stage) -> Tensor:
        if stage.phantoms == 1:
            return torch.arange(300)
        return torch.arange(504 if stage.joints == "apart" else 993)


def test_variants_differ_in_what_they_say():
    by_name = {variant.name: variant for variant in PLAN.variants}
    assert len(by_name) == len(PLAN.variants) >= 16 and PLAN.seeds == (0, 1, 2)
    assert len({json.dumps(vars(v.config), default=vars) for v in PLAN.variants}) == len(PLAN.variants)
    rows = [variant.table_2 for variant in PLAN.variants if variant.table_2]
    assert len(rows) == len(set(rows)) == 5 and rows[-1] == (True, True, True, True)
    for segmenter, discriminator, moved, first in rows:
        variant = next(v for v in PLAN.variants if v.table_2 == (segmenter, discriminator, moved, first))
        weights = [w for stage in variant.config.stages for w in (stage.before, stage.after)]
        assert any(w.supervision for w in weights) == segmenter and any(w.softness for w in weights) == discriminator
        assert (segmenter and variant.config.shift_y > 0) == moved
        assert ("pseudo" in {stage.name for stage in variant.config.stages}) == first


def test_four_changes_in_half_of_their_combinations_are_told_apart():
    """Each change is in half of the eight variants, and meets each other one equally often."""
    names = {name for factor in FACTORS for name in PLAN.contrasts[factor].weights}
    cells = [next(v.config for v in PLAN.variants if v.name == name) for name in sorted(names)]
    levels = torch.tensor([[2 * change(config) - 1 for change in FACTORS.values()] for config in cells])
    assert len(cells) == 8 == len({tuple(row.tolist()) for row in levels})
    assert (levels.sum(dim=0) == 0).all()
    for one, other in combinations(range(4), 2):
        assert (levels[:, one] * levels[:, other]).sum() == 0
    for factor, change in FACTORS.items():
        weights = PLAN.contrasts[factor].weights
        for name, weight in weights.items():
            config = next(v.config for v in PLAN.variants if v.name == name)
            assert weight == (0.25 if change(config) else -0.25)


def test_contrasts_are_differences():
    for contrast in PLAN.contrasts.values():
        assert sum(contrast.weights.values()) == pytest.approx(0)
        assert sum(w for w in contrast.weights.values() if w > 0) == pytest.approx(1)


def test_all_variants_are_shown_about_as_many_images():
    counts = Counts(None, None, torch.zeros(0, dtype=torch.long))
    steps = {
        v.name: sum(stage.epochs * per_epoch(counts, stage, v.config.batch) for stage in v.config.stages)
        for v in PLAN.variants
    }
    assert min(steps.values()) >= 970 and max(steps.values()) <= 1020, steps
    assert {variant.config.batch for variant in PLAN.variants} == {6}


def test_a_setting_of_a_stage_changes_the_variants_that_have_it():
    plan = read_plan(None, settings={"size": 64, "pseudo.epochs": 5})
    for before, after in zip(PLAN.variants, plan.variants, strict=True):
        assert after.config.size == 64
        for old, new in zip(before.config.stages, after.config.stages, strict=True):
            assert new == (replace(old, epochs=5) if old.name == "pseudo" else old)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"sizes": "64"}, "'sizes' is no training setting"), ({"real.epoch": "1"}, "'epoch' is no training setting")],
)
def test_settings_that_nothing_knows(settings, told):
    with pytest.raises(InputError, match=told):
        read_plan(None, settings=settings)


def test_parts_of_a_plan():
    part = PLAN.part(["kept", "baseline"], [1])
    assert [variant.name for variant in part.variants] == ["kept", "baseline"] and part.seeds == (1,)
    assert PLAN.part([], []) == PLAN
    with pytest.raises(InputError, match="--variant kep: the plan has no such variant; choose from baseline"):
        PLAN.part(["kep"], [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1", "not a plan of an ablation"),
        ("train: {}\nvariants: {}\nmore: {}", "not a plan of an ablation"),
        (
            "train: {}\nvariants: {a: {tells: x, train: {}}}\ncontrasts: {c: {tells: y, plus: [a], minus: [b]}}",
            "'c' names 'b', which is no variant",
        ),
        ("train: {}\nvariants: {a: {tells: x, train: {siz: 3}}}", "plan.yaml, a: 'siz' is no training setting"),
        ("train: {}\nvariants: {a: {train: {}}}", "variant 'a' lacks 'tells'"),
    ],
)
def test_plans_that_are_none(tmp_path, text, told):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        read_plan(tmp_path / "plan.yaml")


@pytest.fixture(scope="module", name="runs")
def _runs(tmp_path_factory, phantom_folder):
    """Two variants with two seeds, trained for a few steps and measured on three phantoms."""
    runs = tmp_path_factory.mktemp("runs")
    plan = read_plan(None, settings=TINY).part(["baseline", "all_four"], [0, 1])
    told = []
    assert train_plan(runs, str(phantom_folder), plan, tell=told.append)
    measure_plan(runs, str(phantom_folder), plan, held_out=3, tell=told.append)
    names = ["baseline_0", "all_four_0", "baseline_1", "all_four_1"]
    assert told == [*(f"{name}: training" for name in names), *(f"{name}: measuring" for name in names)]
    return runs, plan


def test_each_run_is_a_folder_with_its_settings_and_numbers(runs):
    folder, plan = runs
    for variant in plan.variants:
        for seed in plan.seeds:
            run = variant.folder(folder, seed)
            config = json.loads((run / "config.json").read_text())
            assert (config["seed"], config["config"]["head"]) == (seed, variant.config.head)
            known = json.loads((run / MEASURED).read_text())["provenance"]
            assert (known["run"], known["seed"], known["split"]) == (run.name, seed, "test")
    weights = [load_generator(v.folder(folder, s) / LAST) for v in plan.variants for s in plan.seeds]
    assert len({float(next(w.parameters()).sum()) for w in weights}) == 4


def test_the_generator_after_the_last_step_is_measured(runs):
    folder, plan = runs
    run = plan.variants[0].folder(folder, 0)
    from safetensors.torch import load_file

    ended = load_file(checkpoints(run / "checkpoints")[-1])
    for name, value in load_generator(run / LAST).generator.state_dict().items():
        torch.testing.assert_close(value, ended[f"module/generator/{name}"].half().float())


def test_what_is_done_is_left_alone_and_what_is_missing_is_done(runs, phantom_folder):
    folder, plan = runs
    run = plan.variants[1].folder(folder, 1)
    (run / MEASURED).unlink()
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    told = []
    assert train_plan(folder, str(phantom_folder), plan, tell=told.append)
    measure_plan(folder, str(phantom_folder), plan, held_out=3, tell=told.append)
    assert told == ["all_four_1: measuring"] and (run / MEASURED).exists()
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_runs_of_other_settings_are_not_taken_for_the_plans(runs, phantom_folder):
    folder, _ = runs
    other = read_plan(None, settings=TINY | {"pseudo.lr_generator": 1e-3}).part(["baseline", "all_four"], [0, 1])
    with pytest.raises(InputError, match="all_four_0: was trained with other settings than the plan now has"):
        train_plan(folder, str(phantom_folder), other, tell=print)


def test_data_without_a_test_split_is_refused_before_anything_is_trained(tmp_path, phantom_folder):
    manifest = (phantom_folder / "manifest.csv").read_text().replace(",test,", ",train,")
    for path in phantom_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "manifest.csv").write_text(manifest)
    with pytest.raises(InputError, match="split 'test' has no joints"):
        train_plan(tmp_path / "runs", str(tmp_path), PLAN, tell=print)
    assert not (tmp_path / "runs").exists()


def test_a_stopped_run_goes_on_and_images_are_decoded_once_for_all_that_widen_alike(
    tmp_path, phantom_folder, monkeypatch
):
    plan = read_plan(None, settings=TINY).part(["baseline", "proposed"], [0])
    answers, resumed, gathered = iter([False, True, True]), [], []

    def train(folder, data, config: Config, *, resume, material, **_):
        resumed.append((folder.name, resume))
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / "step_00000001.safetensors").touch()
        done = next(answers)
        if done:
            (folder / TRAINED).write_text("{}")
        return done

    monkeypatch.setattr(ablation, "train_run", train)
    monkeypatch.setattr(ablation, "gather", lambda data, config: gathered.append(config.dilate_px))
    assert not train_plan(tmp_path, str(phantom_folder), plan, tell=lambda _: None)
    assert train_plan(tmp_path, str(phantom_folder), plan, tell=lambda _: None)
    assert resumed == [("baseline_0", False), ("baseline_0", True), ("proposed_0", False)]
    assert gathered == [1.0, 1.0]  # once in each call


def test_the_board_holds_every_run(runs):
    results = gather_board(*runs)
    assert list(results["variants"]) == ["baseline", "all_four"] and results["contrasts"] == {}
    for found in results["variants"].values():
        assert len(found["training"]["steps"]) == len(found["numbers"]["mse"]["seeds"]) == 2
    baseline, other = (
        results["variants"][name]["numbers"]["psnr_hand_db"]["mean"] for name in ("baseline", "all_four")
    )
    assert other > 100 > baseline


def test_the_command_prints_the_board_and_says_where_it_is(lsn, tmp_path, phantom_folder):
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    asked = ["--data", str(phantom_folder), "--variant", "proposed", "--variant", "partition_bounded", "--seed", "0"]
    told = lsn("ablate", str(tmp_path / "runs"), *asked, *settings, "--phantoms", "2")
    assert told.code == 0 and "the paper's proposal" in told.out and "partition and bounded against" in told.out
    record = json.loads((tmp_path / "runs" / "ablation.json").read_text())
    assert record["provenance"]["kind"] == "ablation" and set(record["metrics"]["contrasts"]) == {"as_stated"}
    told = lsn("ablate", str(tmp_path / "runs"), *asked, "--set", "siz=3")
    assert told.code == 1 and "'siz' is no training setting" in told.err
