"""The settings of a training: every key from text, and nothing else."""

from dataclasses import asdict, fields

import pytest

from lsn_core.config import CHOICES, Config, make_config
from lsn_core.files import InputError
from lsn_core.profile import known_profiles, load_profile

TEXTS = {  # every key, as it is typed after --set, and what it means; no value is the default
    "networks": ("compact", "compact"),
    "head": ("partition", "partition"),
    "soft_tissue": ("bounded", "bounded"),
    "size": ("64", 64),
    "dilate_px": ("4", 4.0),
    "steps": (" 7 ", 7),
    "minutes": ("2.5", 2.5),
    "batch": ("1", 1),
    "lr_generator": ("1e-3", 0.001),
    "lr_segmenter": ("2E-4", 0.0002),
    "lr_discriminator": ("0", 0.0),
    "reconstruction": ("0.5", 0.5),
    "supervision": ("1", 1.0),
    "softness": (".25", 0.25),
    "anchor": ("1", 1.0),
    "shift_x": ("0", 0.0),
    "shift_y": ("12", 12.0),
    "shift_degrees": ("5", 5.0),
    "validation": ("0.2", 0.2),
    "validate_every": ("5", 5),
    "checkpoint_every": ("0", 0.0),
    "precision": ("bf16-mixed", "bf16-mixed"),
    "seed": ("3", 3),
}


def test_every_setting_from_text():
    config = make_config(("--set", {key: text for key, (text, _) in TEXTS.items()}))
    assert asdict(config) == {key: value for key, (_, value) in TEXTS.items()}  # all keys: none is forgotten here
    for field in fields(Config):
        value = getattr(config, field.name)
        assert type(value) is type(field.default) and value != field.default


def test_later_sources_win_and_absent_keys_keep_their_defaults():
    config = make_config(("profile", {"steps": 5, "size": 64}), ("--set", {"steps": "6"}))
    assert config == Config(steps=6, size=64)
    assert make_config() == Config()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("stesp", "5", "'stesp' is no training setting; known are networks, head,"),
        ("steps", "five", "steps is 'five', which is not int"),
        ("steps", "5.5", "steps is '5.5', which is not int"),
        ("steps", True, "steps is True, which is not int"),
        ("steps", None, "steps is None, which is not int"),
        ("steps", 0, "steps is 0; give at least 1"),
        ("minutes", "nan", "minutes is 'nan', which is not float"),
        ("minutes", -1, "minutes is -1.0; give at least 0"),
        ("lr_generator", "-1e-3", "lr_generator is -0.001; give at least 0"),
        ("lr_generator", [1e-3], r"lr_generator is \[0.001\], which is not float"),
        ("head", "softmax", "head is 'softmax'; choose one of sigmoid, partition"),
        ("head", 1, "head is 1, which is not str"),
        ("networks", "huge", "networks is 'huge'; choose one of compact, paper"),
        ("soft_tissue", "", "soft_tissue is ''; choose one of paper, bounded"),
        ("precision", "16", "precision is '16'; choose one of auto, 32-true, bf16-mixed"),
        ("size", "16", "size is 16; give at least 32"),
        ("size", "100", "size is 100; give a multiple of 32"),
        ("batch", "0", "batch is 0; give at least 1"),
        ("seed", "-1", "seed is -1; give at least 0"),
    ],
)
def test_settings_that_are_refused(key, value, told):
    with pytest.raises(InputError, match=f"^profile mine.yaml: {told}") as refusal:
        make_config(("profile mine.yaml", {key: value}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", sorted(known_profiles()))
def test_shipped_profiles_are_configs(name):
    given = load_profile(name)["train"]
    config = make_config((name, given))
    assert given and all(getattr(config, key) == value for key, value in given.items())


def test_the_paper_profile_is_the_default():
    assert make_config(("paper", load_profile("paper")["train"])) == Config()


@pytest.mark.parametrize("key", CHOICES)
def test_every_choice_is_taken(key):
    assert [getattr(make_config(("--set", {key: choice})), key) for choice in CHOICES[key]] == list(CHOICES[key])
    assert getattr(Config(), key) in CHOICES[key]
