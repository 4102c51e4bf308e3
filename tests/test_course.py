"""The downstream experiment's plan: arms differ in what they say and in nothing else, and what is wrong is told."""

import json
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_cohort import gathered

from lsn_core.cohort import TRAIN
from lsn_core.course import DEGREES, MATERIALS, PLANS, Course, Experiment, Phase, Shelf, read_experiment
from lsn_core.files import InputError
from lsn_core.predictors import NETWORKS
from lsn_core.tasks import TASKS

PHASES = (Phase(("radiographs",), 3, 1e-3, 1.0), Phase(("synthetic", "radiographs"), 2, 5e-4, 0.0))
COURSE = Course("jsw", "compact", "some", 1.0, 0, PHASES, 4, 3)


@cache
def shipped() -> Experiment:
    """The project's own plan."""
    return read_experiment(None)


def plan(**changes: object) -> dict:
    """A small plan, with other sections."""
    arms = {
        "control": {"tells": "radiographs", "phases": [{"show": ["radiographs"], "updates": 1.0, "rate": 1.0}]},
        "first": {
            "tells": "synthetic first",
            "phases": [
                {"show": ["synthetic"], "updates": 0.6, "rate": 1.0, "jitter": 0.5},
                {"show": ["radiographs"], "updates": 0.4, "rate": 0.5},
            ],
        },
    }
    known = {"size": 64, "batch": 4, "copies": 2, "seeds": [0, 1], "arms": arms}
    known["networks"] = {"compact": {"jsw": {"updates": 10, "rate": 1e-3}, "jsn": {"updates": 20, "rate": 1e-2}}}
    known["runs"] = [
        {"network": "compact", "tasks": ["jsw", "jsn"], "arms": ["control", "first"], "shares": [1.0, 0.5]}
    ]
    return known | changes


def written(folder: Path, content: object) -> Path:
    """A plan's file."""
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


# --- the project's plan ----------------------------------------------------------------------------------------------


def test_the_projects_plan_is_there_and_names_every_run_once():
    names = [course.name for course in shipped().courses]
    assert len(names) == len(set(names)) > 100 and PLANS[1].is_file()
    assert {course.task for course in shipped().courses} == set(TASKS)
    assert {course.network for course in shipped().courses} == set(NETWORKS)
    assert {course.arm for course in shipped().courses} == set(shipped().tells)
    assert all(len(told.split()) > 1 for told in shipped().tells.values())
    assert all(name.count("-") == 4 and "/" not in name for name in names)


def test_all_arms_of_a_task_are_trained_equally_long():
    def alike(course: Course) -> tuple[str, str]:
        return course.task, course.network

    for of, some in groupby(sorted(shipped().courses, key=alike), key=alike):
        counts = {(course.updates, course.batch, course.copies) for course in some}
        assert len(counts) == 1, (of, counts)


def test_every_cell_has_all_seeds():
    cells = {(c.task, c.network, c.arm, c.share) for c in shipped().courses}
    found = {(c.task, c.network, c.arm, c.share, c.seed) for c in shipped().courses}
    seeds = {course.seed for course in shipped().courses}
    assert len(seeds) > 2 and found == {(*cell, seed) for cell in cells for seed in seeds}
    seen = [course.seed for course in shipped().courses]
    assert seen == sorted(seen)  # seed by seed: what is stopped early is balanced


def test_every_arm_has_its_control_in_the_same_cell():
    cells = {(c.task, c.network, c.share, c.seed, c.arm) for c in shipped().courses}
    assert all((*cell, "control") in cells for *cell, arm in cells if arm != "control")


def test_arms_differ_from_their_control_in_one_thing():
    """What is shown first, and else nothing; a bare arm in its jitter, a slower or faster one in its rate."""
    by_arm = {c.arm: c for c in shipped().courses if (c.task, c.network, c.share, c.seed) == ("jsw", "compact", 1, 0)}

    def pace(arm: str) -> list[tuple[int, float, float]]:
        return [(phase.updates, phase.rate, phase.jitter) for phase in by_arm[arm].phases]

    def shown(arm: str) -> list[tuple[str, ...]]:
        return [phase.show for phase in by_arm[arm].phases]

    assert shown("pretrained") == [("synthetic",), ("radiographs",)] and shown("restarted") == 2 * shown("control")
    for arm in ("restarted", "shuffled", "cut", "elsewhere"):
        assert pace(arm) == pace("pretrained") and shown(arm)[1] == shown("pretrained")[1]
    assert pace("mixed") == pace("control") and shown("mixed") == [("synthetic", "radiographs")]
    for arm in ("control", "pretrained"):
        assert shown(f"bare_{arm}") == shown(arm)
        assert pace(f"bare_{arm}") == [(updates, rate, 0.0) for updates, rate, _ in pace(arm)]
    ((updates, rate, jitter),) = pace("control")
    assert jitter == 1 and pace("slower") == [(updates, rate / 2, 1)] and pace("faster") == [(updates, 2 * rate, 1)]


# --- courses ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_each_step_belongs_to_one_phase(updates):
    phases = tuple(Phase((str(k),), count, 1.0, 1.0) for k, count in enumerate(updates))
    course = replace(COURSE, phases=phases)
    found = [course.at(step) for step in range(course.updates)]
    assert found == [(phase, number) for phase in phases for number in range(phase.updates)]
    with pytest.raises(ValueError, match=f"the course has no step {sum(updates)}; its last is {sum(updates) - 1}"):
        course.at(course.updates)


def test_a_course_is_told_by_json_from_every_other():
    for course in (COURSE, *shipped().courses[:20]):
        assert json.loads(json.dumps(course.plain())) == course.plain()
    others = [
        *(replace(COURSE, task="svdh"), replace(COURSE, share=0.5), replace(COURSE, seed=1), replace(COURSE, batch=5)),
        *(replace(COURSE, copies=2), replace(COURSE, phases=PHASES[:1]), replace(COURSE, phases=PHASES[::-1])),
    ]
    assert all(other.plain() != COURSE.plain() for other in others)
    assert COURSE.name == "jsw-compact-some-100-0" and replace(COURSE, share=0.05).name == "jsw-compact-some-5-0"


def test_a_plan_by_hand(tmp_path):
    found = read_experiment(written(tmp_path, plan()))
    assert found.size == 64 and found.tells == {"control": "radiographs", "first": "synthetic first"}
    assert len(found.courses) == 16
    (course,) = (c for c in found.courses if c.name == "jsn-compact-first-50-1")
    assert course.phases == (Phase(("synthetic",), 12, 1e-2, 0.5), Phase(("radiographs",), 8, 5e-3, 1.0))
    assert (course.batch, course.copies, course.share, course.seed, course.updates) == (4, 2, 0.5, 1, 20)


def test_parts_of_a_plan():
    whole = shipped()
    some = whole.part(task=["jsw"], network=[], arm=["control", "cut"], share=[1.0], seed=[2])
    assert [c.name for c in some.courses] == [
        "jsw-compact-control-100-2",
        "jsw-compact-cut-100-2",
        "jsw-resnet-control-100-2",
    ]
    assert (some.size, some.tells) == (whole.size, whole.tells)
    assert whole.part(task=[], arm=[]) == whole == whole.part()
    with pytest.raises(InputError, match="the plan has no run with task jsn, arm cut, mixed together; leave one"):
        whole.part(task=["jsn"], arm=["cut", "mixed"], seed=[])


def changed(part: str, **values: object) -> dict:
    """The small plan with another first phase, or other runs."""
    content = plan()
    if part == "phase":
        content["arms"]["control"]["phases"][0] |= values
    else:
        content["runs"][0] |= values
    return content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "not a downstream plan; it has the sections arms, batch, copies, networks, runs, seeds, size"),
        ({"size": 64}, "not a downstream plan; it has the sections"),
        (plan(more=1), "not a downstream plan; it has the sections"),
        (changed("runs", arms=["control", "pretraind"]), "pretraind"),
        (changed("runs", tasks=["jsw", "jsx"]), "task 'jsx' is none of jsn, jsw, svdh"),
        (changed("runs", tasks=["svdh"]), "svdh"),  # no pace is given
        (changed("runs", network="resnt"), "network 'resnt' is none of compact, resnet"),
        (changed("phase", show=["synthetic", "radiograph"]), "show radiograph 'radiograph' is none of radiographs, "),
        (changed("phase", jiter=1.0), "setting jiter 'jiter' is none of show, updates, rate, jitter"),
        (changed("phase", updates="many"), "TypeError"),
        (changed("phase", rate=None), "TypeError"),
        (changed("runs", shares=None), "TypeError"),
        (plan(arms={"control": {"phases": []}, "first": {"phases": []}}), "the phases of arm control have 0 of the"),
        (plan(batch=0), "batch is 0, and must be a whole number from 1"),
        (plan(seeds=["a"]), "seeds are ['a'], and must be a list of whole numbers from 0"),
        (plan(seeds=[0, 0]), "run jsw-compact-control-100-0 is there twice; list it once"),
    ],
)
def test_plans_that_are_none(tmp_path, content, told):
    path = written(tmp_path, content)
    with pytest.raises(InputError) as refused:
        read_experiment(path)
    assert str(refused.value).startswith(f"{path}: ") and told in str(refused.value)


def test_a_plan_that_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        read_experiment(tmp_path / "absent.yaml")


# --- what phases draw from -------------------------------------------------------------------------------------------


def shelf(**changes: object) -> Shelf:
    return Shelf(gathered(), None, replace(COURSE, **changes))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.8, 1.0])
def test_as_many_synthetic_images_are_shown_at_each_share(share):
    """To within half a copy of each radiograph."""
    one = shelf(share=share)
    count = len(one.annotated)
    made, wanted = len(one.synthetic()), COURSE.copies * len(gathered().of(TRAIN))
    assert made == count * one.plan(count).copies and abs(made - wanted) <= count / 2
    assert len(one.radiographs()) == count


def test_few_copies_of_many_radiographs_are_one():
    assert shelf(copies=1).plan(10**6).copies == 1


def test_plans_follow_from_seed_and_copies():
    found = shelf(seed=3).plan(18)
    assert (found.seed, found.degrees, found.copies, found.name) == (3, DEGREES, 3, "uniform")
    assert not torch.equal(shelf(seed=3).synthetic().image, shelf(seed=4).synthetic().image)
    assert torch.equal(shelf(seed=3).synthetic().image, shelf(seed=3).synthetic().image)


def test_materials_show_what_they_are_called():
    one, other = shelf(share=0.4), gathered(count=8, times=1)
    there = replace(one, other=other)
    found = {name: make(there) for name, make in MATERIALS.items()}
    assert set(found) == {"radiographs", "synthetic", "shuffled", "cut", "elsewhere"}
    assert torch.equal(found["shuffled"].image, found["synthetic"].image)
    assert not torch.equal(found["shuffled"].jsw_mm, found["synthetic"].jsw_mm)
    assert torch.equal(found["cut"].jsw_mm, found["synthetic"].jsw_mm)
    assert not torch.equal(found["cut"].image, found["synthetic"].image)
    assert torch.equal(found["radiographs"].image, gathered().image[one.annotated])
    groups = found["elsewhere"].group.unique().numel()
    assert groups == len(other.of(TRAIN)) and len(found["elsewhere"]) == groups * there.plan(groups).copies


def test_an_arm_that_learns_elsewhere_needs_another_cohort():
    with pytest.raises(
        InputError, match="jsw-compact-some-100-0: its arm learns from another cohort; name one with --o"
    ):
        shelf().elsewhere()
