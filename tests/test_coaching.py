"""Runs of the downstream experiment: they learn, go on after a stop as if there had been none, and are left alone."""

import fcntl
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from test_cohort import gathered

from lsn_core import coaching
from lsn_core.answers import read_answers, write_answers
from lsn_core.checkpoint import checkpoints
from lsn_core.coaching import (
    ANSWERS,
    CHECKPOINTS,
    LOCK,
    METRICS,
    WARMUP,
    WEIGHTS,
    Place,
    Shown,
    load_predictor,
    rate,
    run_course,
    run_experiment,
)
from lsn_core.cohort import TEST
from lsn_core.course import Course, Experiment, Phase, Shelf
from lsn_core.files import InputError, held, read_json
from lsn_core.jsw import svdh_like
from lsn_core.tasks import numbers_of, prepared, width_of

PHASES = (Phase(("synthetic",), 3, 2e-3, 1.0), Phase(("radiographs", "cut"), 3, 1e-3, 0.5))
COURSE = Course("jsw", "compact", "first", 1.0, 0, PHASES, batch=4, copies=2)
OTHERS = replace(COURSE, task="jsn"), replace(COURSE, task="svdh", share=0.4, seed=1)
EXPERIMENT = Experiment(64, (COURSE, *OTHERS), {"first": "synthetic first"})


def place_at(folder: Path) -> Place:
    """A folder for runs on the tiny cohort."""
    return Place(folder, gathered(), None, torch.device("cpu"), {"cohort": {"data": "phantoms"}})


@pytest.fixture(name="steps", autouse=True)
def _steps(monkeypatch) -> list[int]:
    """The steps of a test, as they are done."""
    done: list[int] = []
    step = coaching.Coach._step

    def noted(coach: coaching.Coach, number: int, shown: Shown) -> None:
        step(coach, number, shown)
        done.append(number)

    monkeypatch.setattr(coaching.Coach, "_step", noted)
    return done


def after(count: int, steps: list[int]) -> Callable[[], bool]:
    """Says stop once so many steps are done, however often it is asked."""
    return lambda: len(steps) >= count


def never() -> bool:
    return False


@pytest.fixture(scope="module", name="runs")
def _runs(tmp_path_factory) -> Place:
    """All three tasks, each trained for six steps."""
    there = place_at(tmp_path_factory.mktemp("runs"))
    assert run_experiment(there, EXPERIMENT, tell=pytest.fail)
    return there


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_each_run_is_a_folder_with_its_answers_and_where_they_come_from(runs):
    assert sorted(path.name for path in runs.folder.iterdir()) == sorted(c.name for c in EXPERIMENT.courses)
    for course in EXPERIMENT.courses:
        folder = runs.folder / course.name
        record = read_json(folder / METRICS)
        assert record["provenance"]["course"] == course.plain()
        assert record["provenance"]["cohort"] == {"data": "phantoms"}
        assert record["metrics"]["seconds"] > 0 and min(record["metrics"]["images_a_second"].values()) > 0
        assert {p.name for p in folder.iterdir()} >= {METRICS, ANSWERS, WEIGHTS} and not checkpoints(
            folder / CHECKPOINTS
        )


def test_answers_are_of_the_test_joints_with_what_is_true_of_them(runs):
    cohort = gathered()
    index = cohort.of(TEST).tolist()
    names = [cohort.rows[k].name for k in index]
    widths = dict(zip(names, cohort.jsw_mm[index].tolist(), strict=True))
    jsw, jsn, svdh = (read_answers(runs.folder / course.name / ANSWERS) for course in EXPERIMENT.courses)
    for rows in (jsw, svdh):
        assert [row["name"] for row in rows] == names
        assert [row["joint"] for row in rows] == [cohort.rows[k].joint for k in index]
    assert [row["true"] for row in jsw] == pytest.approx([widths[name] for name in names], rel=1e-5)
    assert [row["true"] for row in svdh] == [svdh_like(widths[name]) for name in names]
    assert all(0.0 < row["found"] < 2.5 for row in jsw) and all(row["found"] in range(5) for row in svdh)
    joint = {row["name"]: row["joint"] for row in jsw}
    expected = [(one, other) for one, other in permutations(names, 2) if joint[one] == joint[other]]
    assert sorted((row["name"], row["fixed"]) for row in jsn) == sorted(expected)
    for row in jsn:
        assert row["true"] == pytest.approx(widths[row["name"]] - widths[row["fixed"]], abs=1e-5)
        assert row["error"] > 0 and (math.isnan(row["found"]) or 0 <= row["sd"] < 0.3)


def test_a_runs_network_can_be_asked_again(runs):
    network, task = load_predictor(runs.folder / COURSE.name / WEIGHTS)
    assert task == "jsw" and not network.training
    rows = read_answers(runs.folder / COURSE.name / ANSWERS)
    with torch.no_grad():
        found = width_of(numbers_of(network, prepared(gathered().image[gathered().of(TEST)])))
    assert found.tolist() == pytest.approx([row["found"] for row in rows], rel=1e-4)
    with pytest.raises(InputError, match=r"metrics\.json: not a run's network"):
        load_predictor(runs.folder / COURSE.name / METRICS)


@pytest.mark.parametrize("rows", [[{"name": "a", "fixed": "b", "joint": "c, d", "true": 0.25, "found": math.nan}]])
def test_answers_go_to_a_table_and_back(tmp_path, rows):
    rows = [*rows, {"name": 'q"', "fixed": "7", "joint": "9", "true": -1.5, "found": 2}]
    path = write_answers(tmp_path / "new" / "answers.csv", rows)
    found = read_answers(path)
    assert path.read_text().splitlines()[1] == 'a,b,"c, d",0.25,'
    assert math.isnan(found[0].pop("found")) and rows[0].pop("found") is math.nan
    assert found == rows and found[1]["fixed"] == "7"


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("course", EXPERIMENT.courses, ids=lambda course: course.task)
def test_a_stopped_run_goes_on_as_if_it_had_not(runs, tmp_path, steps, course):
    """Stopped within the first phase and again within the second."""
    there = place_at(tmp_path)
    folder = tmp_path / course.name
    for count in (2, 5):
        run_course(there, course, stopped=after(count, steps))
        assert [path.stem for path in checkpoints(folder / CHECKPOINTS)] == [f"step_{count:08d}"]
        assert not (folder / METRICS).exists() and not (folder / ANSWERS).exists()
    run_course(there, course, stopped=never)
    assert steps == list(range(6)) and not checkpoints(folder / CHECKPOINTS)
    assert (folder / ANSWERS).read_bytes() == (runs.folder / course.name / ANSWERS).read_bytes()
    networks = [load_predictor(at / course.name / WEIGHTS)[0].state_dict() for at in (runs.folder, tmp_path)]
    assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())


def test_a_signal_stops_all_runs_and_the_same_call_goes_on(runs, tmp_path, steps, monkeypatch):
    told, step = [], coaching.Coach._step

    def interrupted(*words: object) -> None:
        step(*words)
        if len(steps) == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(coaching.Coach, "_step", interrupted)
    assert not run_experiment(place_at(tmp_path), EXPERIMENT, tell=told.append)
    assert told == ["stopping after this step..."] and steps == [0, 1, 2, 3]
    assert [p.name for p in tmp_path.rglob("*.safetensors")] == ["step_00000004.safetensors"]
    monkeypatch.setattr(coaching.Coach, "_step", step)
    assert run_experiment(place_at(tmp_path), EXPERIMENT, tell=pytest.fail) and steps == 3 * list(range(6))
    for course in EXPERIMENT.courses:
        assert (tmp_path / course.name / ANSWERS).read_bytes() == (runs.folder / course.name / ANSWERS).read_bytes()


def test_what_is_done_is_not_run_again(runs, steps):
    times = {path: path.stat().st_mtime_ns for path in runs.folder.rglob("*.*") if path.name != ".lock"}
    assert len(times) >= 9 and run_experiment(runs, EXPERIMENT, tell=pytest.fail) and not steps
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize(
    "other", [{"batch": 5}, {"copies": 3}, {"phases": (*PHASES[:1], replace(PHASES[1], rate=2e-3))}]
)
def test_a_run_begun_with_other_settings_is_refused(tmp_path, steps, other):
    there = place_at(tmp_path)
    run_course(there, COURSE, stopped=after(1, steps))
    with pytest.raises(
        InputError, match=f"{COURSE.name}: was begun with other settings than the plan now has; name ano"
    ):
        run_course(there, replace(COURSE, **other), stopped=never)
    assert steps == [0]


def test_a_run_on_another_cohort_is_refused(tmp_path, runs, steps):
    """Neither begun on one cohort and ended on another, nor taken for done."""
    told = "was begun on another cohort; give --cohort as before"
    with pytest.raises(InputError, match=told):
        run_experiment(replace(runs, known={"cohort": "another"}), EXPERIMENT, tell=pytest.fail)
    there = place_at(tmp_path)
    run_course(there, COURSE, stopped=after(1, steps))
    with pytest.raises(InputError, match=told):
        run_course(replace(there, known={"cohort": "another"}), COURSE, stopped=never)


def test_a_run_done_with_other_settings_is_refused(runs):
    other = replace(EXPERIMENT, courses=(replace(COURSE, batch=5),))
    with pytest.raises(
        InputError, match=f"{COURSE.name}: was begun with other settings than the plan now has; name another"
    ):
        run_experiment(runs, other, tell=pytest.fail)


# --- several at once -------------------------------------------------------------------------------------------------


def test_a_folder_is_held_by_one(tmp_path):
    with held(tmp_path / "run" / LOCK) as mine:
        assert mine
        with held(tmp_path / "run" / LOCK) as second, held(tmp_path / "other" / LOCK) as elsewhere:
            assert not second and elsewhere
        asked = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", asked, str(tmp_path / "run" / ".lock")], capture_output=True)
        assert b"BlockingIOError" in done.stderr
    with held(tmp_path / "run" / LOCK) as again:
        assert again


def test_a_run_that_another_is_at_is_left_to_it(tmp_path, steps):
    held = tmp_path / COURSE.name
    held.mkdir()
    with (held / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not run_experiment(
            place_at(tmp_path), replace(EXPERIMENT, courses=(COURSE, OTHERS[1])), tell=pytest.fail
        )
    assert not (held / METRICS).exists() and (tmp_path / OTHERS[1].name / METRICS).exists() and len(steps) == 6


# --- learning --------------------------------------------------------------------------------------------------------


def test_it_learns(tmp_path):
    """Widths it was shown: half of their variance and more; another seed, another network."""
    phases = (Phase(("radiographs",), 60, 3e-3, 0.0),)
    course = replace(COURSE, phases=phases, batch=8)
    networks = []
    for seed in (0, 1):
        run_course(place_at(tmp_path), replace(course, seed=seed), stopped=never)
        networks.append(load_predictor(tmp_path / replace(course, seed=seed).name / WEIGHTS)[0])
    pool = Shelf(gathered(), None, course).radiographs()
    with torch.no_grad():
        found = width_of(numbers_of(networks[0], prepared(pool.image)))
    assert (found - pool.jsw_mm).square().mean() < 0.5 * pool.jsw_mm.var()
    assert not torch.equal(networks[0].head.weight, networks[1].head.weight)


def test_batches_are_drawn_from_all_examples_or_pairs():
    pool = Shelf(gathered(), None, COURSE).radiographs()
    images, pairs = (Shown.of(pool, replace(COURSE, task=task)) for task in ("svdh", "jsn"))
    assert images.choices.tolist() == list(range(18)) and torch.equal(pairs.choices, pool.pairs())
    drawn = images.draw(400, torch.Generator().manual_seed(0))
    assert drawn.unique().numel() == 18 and pairs.draw(5, torch.Generator().manual_seed(0)).shape == (5, 2)


def test_pairs_that_are_not_there_are_asked_for():
    cohort = gathered(count=8, times=1)
    pool = Shelf(cohort, None, COURSE).radiographs()
    with pytest.raises(InputError, match=r"jsn-.*: no joint of its share has two radiographs; take a larger share"):
        Shown.of(pool, OTHERS[0])
    assert len(Shown.of(pool, COURSE).choices) == 6


def test_a_rate_rises_to_its_largest_and_falls_to_nothing():
    places = [k / 1000 for k in range(1001)]
    rates = [rate(2e-3, where) for where in places]
    top = round(1000 * WARMUP)
    assert rates[top] == pytest.approx(2e-3) and max(rates) <= 2e-3 * 1.021 and 0 < rates[0] < 1e-4
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[top + (1000 - top) // 2] == pytest.approx(1e-3, rel=1e-2)
