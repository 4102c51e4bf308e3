"""Readings: what a rater saved comes back, and every broken line is named with its remedy."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsn_core.files import InputError
from lsn_core.readings import (
    COLUMNS,
    Key,
    Reading,
    as_study,
    check_key,
    csv_text,
    is_simulated,
    read_key,
    read_readings,
)

SHA = "ab" * 32
LINE = dict(
    zip(COLUMNS, (SHA, "Ann", "0", "000", "synthetic", "4", "3.5", "2026-01-31T12:00:00Z"), strict=True),
)
KEY = Key(SHA, {"000": "real", "001": "synthetic", "002": "synthetic"})


def reading(reader: str, image: str, answer: str, confidence: int = 3, *, sha: str = SHA) -> Reading:
    """A reading of which the rest does not matter."""
    return Reading(sha, reader, 0, image, answer, confidence, 1.0, "2026-01-31T12:00:00Z")


def saved(tmp_path, *lines: dict, header: tuple = COLUMNS, end: str = "\n"):
    """A CSV file of these lines."""
    path = tmp_path / "ann.csv"
    text = end.join([",".join(header), *(",".join(line[name] for name in header) for line in lines)]) + end
    path.write_bytes(text.encode())
    return path


def test_a_line_is_read_as_it_is(tmp_path):
    assert read_readings(saved(tmp_path, LINE)) == [
        Reading(SHA, "Ann", 0, "000", "synthetic", 4, 3.5, "2026-01-31T12:00:00Z")
    ]


def test_spreadsheets_may_have_touched_the_file(tmp_path):
    """A byte order mark, Windows' line ends, a further column and another order of columns do no harm."""
    path = saved(tmp_path, LINE | {"note": "x"}, header=("note", *reversed(COLUMNS)), end="\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_readings(path)[0].confidence == 4


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("answer", "fake", 'answer is \'fake\', and must be "real" or "synthetic"'),
        ("answer", "Real", "answer is 'Real'"),
        ("confidence", "0", "confidence is '0', and must be a whole number from 1"),
        ("confidence", "6", "confidence is '6'"),
        ("confidence", "3.5", "confidence is '3.5'"),
        ("set", "abc", "set is 'abc', and must be the SHA-256"),
        ("reader", "", "reader is '', and must be a reader's name"),
        ("position", "-1", "position is '-1'"),
        ("image", " ", "image is ' '"),
        ("seconds", "nan", "seconds is 'nan'"),
        ("seconds", "-2", "seconds is '-2'"),
        ("when", "yesterday", "when is 'yesterday', and must be an ISO time"),
    ],
)
def test_a_broken_value_is_named(tmp_path, column, value, said):
    path = saved(tmp_path, LINE, LINE | {"image": "001", column: value})
    with pytest.raises(InputError) as told:
        read_readings(path)
    assert f"{path}, line 3: " in str(told.value) and said in str(told.value)
    assert "correct or remove the line" in str(told.value)


def test_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match="line 1: no column confidence, when; the header must hold set,reader"):
        read_readings(saved(tmp_path, LINE, header=tuple(c for c in COLUMNS if c not in ("confidence", "when"))))
    with pytest.raises(InputError, match="no readings below the header"):
        read_readings(saved(tmp_path))
    with pytest.raises(InputError, match="Ann read image 000 twice; keep the first reading"):
        read_readings(saved(tmp_path, LINE, LINE | {"position": "1"}))
    path = saved(tmp_path, LINE)
    path.write_text(path.read_text().rstrip() + ",more\n")
    with pytest.raises(InputError, match="line 2: more values than columns"):
        read_readings(path)
    path.write_text(",".join(COLUMNS) + f"\n{SHA},Ann\n")
    with pytest.raises(InputError, match="line 2: position is None"):
        read_readings(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        read_readings(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="line 1: no column set"):
        read_readings(path)
    with pytest.raises(InputError, match="no such file"):
        read_readings(tmp_path / "none.csv")


names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(names, names, st.sampled_from(["real", "synthetic"]), st.integers(1, 5)), min_size=1))
def test_what_is_written_is_read_again(tmp_path_factory, rows):
    """Names may hold commas and quotes, in any script."""
    readings = [reading(*row) for row in {row[:2]: row for row in rows}.values()]
    path = tmp_path_factory.mktemp("readings") / "r.csv"
    path.write_text(csv_text(readings), encoding="utf-8", newline="")
    assert read_readings(path) == readings


def test_the_key_is_known_by_the_hash_of_its_bytes(tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"format": "lsn-turing-key-1", "truth": KEY.truth, "jsw_mm": {"000": 1.2}}))
    assert read_key(path) == Key(hashlib.sha256(path.read_bytes()).hexdigest(), KEY.truth)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([], "not the key of a set"),
        ({"format": "other", "truth": {}}, "not the key of a set"),
        ({"format": "lsn-turing-key-1"}, '"truth" must call some images "real" and some "synthetic"'),
        ({"format": "lsn-turing-key-1", "truth": {"0": "real"}}, "must call some"),
        ({"format": "lsn-turing-key-1", "truth": {"0": "real", "1": "synthetic", "2": "fake"}}, "must call some"),
    ],
)
def test_other_keys_are_refused(tmp_path, known, said):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(known))
    with pytest.raises(InputError, match=said):
        read_key(path)


def test_readings_of_another_set_are_refused():
    with pytest.raises(InputError, match="Ann read set cdcdcdcdcdcd, and this key is of abababababab; give the key"):
        check_key(KEY, [reading("Ann", "000", "real", sha="cd" * 32)])
    with pytest.raises(InputError, match="Ann read image 009, which the key lacks"):
        as_study(KEY, [reading("Ann", "009", "real")])
    with pytest.raises(InputError, match="in these files together: Ann read image 000 twice"):
        as_study(KEY, [reading("Ann", "000", "real"), reading("Ann", "000", "synthetic")])
    with pytest.raises(InputError, match="there are no readings to score"):
        as_study(KEY, [])


def test_a_study_by_hand():
    """Ann: surely real (5) is 1, unsure synthetic (1) is 6; she left out 002. Simulated: unsure real is 5."""
    readings = [
        reading("Ann", "001", "synthetic", 1),
        reading("Ann", "000", "real", 5),
        reading("simulated 1", "000", "real", 1),
        reading("simulated 1", "001", "real", 2),
        reading("simulated 1", "002", "synthetic", 5),
    ]
    study = as_study(KEY, readings)
    assert study.readers == ("Ann", "simulated 1") and study.images == ("000", "001", "002")
    np.testing.assert_array_equal(study.synthetic, [False, True, True])
    np.testing.assert_array_equal(study.ratings, [[1, 6, np.nan], [5, 4, 10]])
    np.testing.assert_array_equal(study.right, [[1, 1, np.nan], [1, 0, 1]])
    np.testing.assert_array_equal(study.says_synthetic, [[False, True, False], [False, False, True]])
    assert study.told() == {"Ann": "2 of 3", "simulated 1": "3 of 3"} and study.simulated == (False, True)
    shared = study.complete()
    assert shared.images == ("000", "001") and shared.ratings.shape == (2, 2) and len(shared.synthetic) == 2


def test_ratings_order_answers_and_confidence():
    ladder = [("real", c) for c in (5, 4, 3, 2, 1)] + [("synthetic", c) for c in (1, 2, 3, 4, 5)]
    assert [reading("Ann", "000", *step).rating for step in ladder] == list(range(1, 11))


def test_only_names_that_begin_so_are_simulated():
    assert is_simulated("simulated 3") and is_simulated("Simulated") and not is_simulated("Ann, not simulated")
