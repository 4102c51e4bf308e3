"""The settings of a training: every key from text, and nothing else."""

import json
from dataclasses import asdict, fields

import pytest

from lsn_core.config import CHOICES, Config, make_config, read_config
from lsn_core.files import InputError
from lsn_core.profile import known_profiles, load_profile
from lsn_core.stage import CODE, PAPER, PRESETS, Stage, Weights

TEXTS = {  # every key, as it is typed after --set, and what it means; no value is the default
    "networks": ("compact", "compact"),
    "head": ("partition", "partition"),
    "soft_tissue": ("bounded", "bounded"),
    "start": ("compact", "compact"),
    "size": ("64", 64),
    "dilate_px": ("4", 4.0),
    "batch": ("1", 1),
    "stages": ("code", CODE),
    "phantoms": (" 7 ", 7),
    "mirror": ("0.5", 0.5),
    "shift_x": ("0", 0.0),
    "shift_y": ("12", 12.0),
    "shift_degrees": ("5", 5.0),
    "validation": ("0.2", 0.2),
    "validate_every": ("5", 5),
    "checkpoint_every": ("0", 0.0),
    "keep": ("9", 9),
    "preview": ("held-out", "held-out"),
    "precision": ("bf16-mixed", "bf16-mixed"),
    "seed": ("3", 3),
}
STAGE_TEXTS = {  # the same of a stage
    "epochs": ("2", 2),
    "joints": ("apart", "apart"),
    "untouched": (".25", 0.25),
    "phantoms": ("0.5", 0.5),
    "originals": ("yes", True),
    "switch": ("1", 1),
    "before": ({"anchor": "2"}, Weights(anchor=2.0)),
    "after": ({"truth": 1, "overlap": "0.2"}, Weights(truth=1.0, overlap=0.2)),
    "shifts": ("2", 2),
    "lr_generator": ("1e-3", 0.001),
    "lr_segmenter": ("2E-4", 0.0002),
    "lr_discriminator": ("0", 0.0),
    "halve_every": ("20", 20),
    "warmup": ("9", 9),
}


def test_every_setting_from_text():
    config = make_config(("--set", {key: text for key, (text, _) in TEXTS.items()}))
    assert {field.name: getattr(config, field.name) for field in fields(Config)} == {
        key: value for key, (_, value) in TEXTS.items()
    }
    for field in fields(Config):
        value = getattr(config, field.name)
        assert type(value) is type(field.default) and value != field.default


def test_every_setting_of_a_stage_from_text():
    given = {"phantoms": 5, "stages": {"only": {key: text for key, (text, _) in STAGE_TEXTS.items()}}}
    (stage,) = make_config(("profile", given)).stages
    assert stage == Stage("only", **{key: value for key, (_, value) in STAGE_TEXTS.items()})
    assert {field.name for field in fields(Stage)} == {"name", *STAGE_TEXTS}
    plain = Stage("only", epochs=1)
    assert [name for name in STAGE_TEXTS if getattr(stage, name) == getattr(plain, name)] == []


def test_one_setting_of_one_stage():
    settings = {"pseudo.epochs": "3", "pseudo.after.bones": "0.7", "real.lr_segmenter": "0.5"}
    first, second = make_config(("--set", settings)).stages
    assert (first.epochs, first.after.bones, second.lr_segmenter) == (3, 0.7, 0.5)
    assert first.before == PAPER[0].before and first.after.supervision == PAPER[0].after.supervision
    assert second.epochs == PAPER[1].epochs and second.after == PAPER[1].after


def test_later_sources_win_and_absent_keys_keep_their_defaults():
    config = make_config(("profile", {"batch": 5, "size": 64}), ("--set", {"batch": "6"}))
    assert config == Config(batch=6, size=64)
    assert make_config() == Config()


def test_a_config_comes_back_from_json():
    config = make_config(("x", {"phantoms": 3, "stages": {"a": {"phantoms": 1.0, "after": {"truth": 1}}, "b": {}}}))
    assert read_config(json.loads(json.dumps(asdict(config)))) == config
    with pytest.raises(TypeError):
        read_config({**asdict(config), "minutes": 3})


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("bacth", "5", "'bacth' is no training setting; known are networks, head,"),
        ("batch", "five", "batch is 'five', which is not int"),
        ("batch", "5.5", "batch is '5.5', which is not int"),
        ("batch", True, "batch is True, which is not int"),
        ("batch", None, "batch is None, which is not int"),
        ("batch", 0, "batch is 0; give at least 1"),
        ("mirror", "nan", "mirror is 'nan', which is not float"),
        ("mirror", -1, "mirror is -1.0; give at least 0 and at most 1"),
        ("mirror", 2, "mirror is 2.0; give at least 0 and at most 1"),
        ("keep", 0, "keep is 0; give at least 1"),
        ("head", "softmax", "head is 'softmax'; choose one of sigmoid, partition"),
        ("head", 1, "head is 1, which is not str"),
        ("networks", "huge", "networks is 'huge'; choose one of compact, paper"),
        ("soft_tissue", "", "soft_tissue is ''; choose one of paper, bounded"),
        ("precision", "16", "precision is '16'; choose one of auto, 32-true, bf16-mixed"),
        ("size", "16", "size is 16; give at least 32"),
        ("size", "100", "size is 100; give a multiple of 32"),
        ("seed", "-1", "seed is -1; give at least 0"),
        ("stages", "papr", "stages is 'papr'; name one of paper, code"),
        ("stages", {}, "stages is {}; name one of paper, code"),
        ("stages", {"a": 3}, "stages is {'a': 3}; name one of paper, code"),
        ("stages", {"a": {"epochs": 0}}, ", stage a: epochs is 0; give at least 1"),
        ("stages", {"a": {"steps": 9}}, ", stage a: 'steps' is no training setting; known are epochs, joints,"),
        ("stages", {"a": {"after": 1}}, ", stage a: after is 1; write term: weight pairs"),
        ("stages", {"a": {"after": {"bone": 1}}}, ", stage a: 'bone' is no training setting; known are reconstruction"),
        ("stages", {"a": {"phantoms": 0.5}}, "stage 'a' shows phantoms; say with phantoms=N how many to draw"),
        ("stages", {"a": {"phantoms": 1.5}}, ", stage a: phantoms is 1.5; give at least 0 and at most 1"),
        ("stages", {"a": {"joints": "some"}}, ", stage a: joints is 'some'; choose one of apart, all"),
        ("real.lr_generator", "-1e-3", "lr_generator is -0.001; give at least 0"),
        ("real.lr_generator", [1e-3], r"lr_generator is [0.001], which is not float"),
        ("unreal.epochs", "3", "'unreal.epochs': there is no stage 'unreal'; there are pseudo, real"),
    ],
)
def test_settings_that_are_refused(key, value, told):
    with pytest.raises(InputError) as refusal:
        make_config(("profile mine.yaml", {key: value}))
    message = str(refusal.value)
    assert message.removeprefix("profile mine.yaml").removeprefix(": ").startswith(told) and "\n" not in message


@pytest.mark.parametrize("name", sorted(known_profiles()))
def test_shipped_profiles_are_configs(name):
    given = load_profile(name)["train"]
    config = make_config((name, given))
    assert given and all(getattr(config, key) == value for key, value in given.items() if key != "stages")
    assert isinstance(given["stages"], str) or [stage.name for stage in config.stages] == list(given["stages"])


def test_the_paper_profile_is_the_default():
    assert make_config(("paper", load_profile("paper")["train"])) == Config()


@pytest.mark.parametrize("key", set(CHOICES) - {"joints"})
def test_every_choice_is_taken(key):
    assert [getattr(make_config(("--set", {key: choice})), key) for choice in CHOICES[key]] == list(CHOICES[key])
    assert getattr(Config(), key) in CHOICES[key]


def test_presets_have_names_of_their_own():
    assert all(len({stage.name for stage in stages}) == len(stages) for stages in PRESETS.values())
