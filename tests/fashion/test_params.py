import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fashion.core.errors import UserError
from fashion.core.params import read_params

COMMITTED = Path(__file__).parents[2] / "params.yaml"
PARAMS = YAML(typ="safe").load(COMMITTED)


@pytest.fixture
def path(tmp_path):
    """Return the path of a params file that does not exist yet."""
    return tmp_path / "params.yaml"


def write_changed(path: Path, place: tuple, value: Any) -> dict:
    """Write the committed params with a value at a place, or without it if the value is None.

    Return what was written.
    """
    params = copy.deepcopy(PARAMS)
    section = params
    for key in place[:-1]:
        section = section[key]
    if value is None:
        del section[place[-1]]
    else:
        section[place[-1]] = value
    YAML(typ="safe").dump(params, path)
    return params


@pytest.mark.parametrize(
    ("name", "value", "message"),  # one for each kind of type and range
    [
        ("train.epochs", "five", "train.epochs is 'five'. Input should be a valid integer"),
        ("train.epochs", 0, "train.epochs is 0. Input should be greater than 0"),
        ("train.epochs", None, "train.epochs is missing"),
        ("train.epoch", 5, "epoch is not a known key. Check its spelling; fashion/core/params.py"),
        ("train.learning_rate", 1.5, "train.learning_rate is 1.5. Input should be less than or"),
        ("train.learning_rate_schedule", "step", "'step'. Input should be 'constant' or 'cosine'"),
        ("model.batch_normalization", 1, "is 1. Input should be a valid boolean"),
        ("model.dropout", 1.0, "model.dropout is 1.0. Input should be less than 1"),
        ("model.filters", [], "model.filters is []"),
        ("model.hidden_units", [784, -1], "model.hidden_units.1 is -1"),
        ("model.hidden_units", [50_000], "model.hidden_units.0 is 50000"),
        ("train.batch_size", 10**20, "train.batch_size is 100000000000000000000"),
        ("seed", 2**32, "seed is 4294967296"),
    ],
)
def test_a_wrong_param_is_named_with_what_was_expected(path, name, value, message):
    write_changed(path, tuple(name.split(".")), value)
    with pytest.raises(UserError) as error:
        read_params(path)
    assert message in str(error.value)
    *problems, back = str(error.value).splitlines()
    assert all(problem.startswith(f"{path}: ") for problem in problems)
    assert back == f"`git checkout {path}` brings the committed params back"


LAUGHS = "a0: &a0 [ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"seed: 1\n seed: 2", "not YAML: mapping values are not allowed here (line 2)"),
        (b"seed: 2026-13-32\n", "not YAML"),
        (b"[" * 1000, "not YAML"),
        (COMMITTED.read_bytes() + b"seed: 43\n", 'found duplicate key "seed"'),
        (b"", "the whole file is None"),
        (f"{LAUGHS}seed: *a9\n".encode(), "a0 is not a known key"),
    ],
)
def test_other_content_is_refused_and_takes_little_memory(path, memory_below, content, message):
    if content is not None:
        path.write_bytes(content)
    with memory_below(2**26), pytest.raises(UserError) as error:
        read_params(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


def test_a_folder_in_its_place_is_refused_like_a_missing_file(path):
    path.mkdir()
    with pytest.raises(UserError, match=f"{path}: no such file. `git checkout"):
        read_params(path)


@pytest.mark.parametrize(("text", "value"), [("1e-5", 1e-5), ("0.5", 0.5), ("1", 1.0)])
def test_numbers_are_read_as_dvc_writes_them(path, text, value):
    content = COMMITTED.read_text().replace("learning_rate: 0.001", f"learning_rate: {text}")
    path.write_text(content)
    assert read_params(path).train.learning_rate == value


def places(section: Any, path: tuple = ()) -> list[tuple]:
    """Return the place of every value of a params file, as keys and positions."""
    items = section.items() if isinstance(section, dict) else enumerate(section)
    found = []
    for key, inner in items:
        nested = places(inner, (*path, key)) if isinstance(inner, dict | list) else []
        found += [(*path, key), *nested]
    return found


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3)
)
ADDED = st.text(max_size=9).map(lambda key: (key,))
CHANGES = st.tuples(st.sampled_from(places(PARAMS)) | ADDED, VALUES)


@settings(
    max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CHANGES)
def test_generated_params_are_refused_or_read_as_they_are(path, change):
    """No other error than UserError, no value turned into another, at most 2 s."""
    try:
        written = write_changed(path, *change)
    except KeyError:  # nothing to delete
        return
    try:
        read = read_params(path)
    except UserError as error:
        assert "params.yaml: " in str(error)
    else:
        found = read.model_dump(mode="json")
        assert json.dumps(found, sort_keys=True) == json.dumps(written, sort_keys=True)
