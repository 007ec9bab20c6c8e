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


def write_changed(path: Path, place: tuple, value: Any) -> None:
    """Write the committed params with a value at a place; None deletes what stands there."""
    params = copy.deepcopy(PARAMS)
    section = params
    for key in place[:-1]:
        section = section[key]
    if value is None:
        del section[place[-1]]
    else:
        section[place[-1]] = value
    YAML(typ="safe").dump(params, path)


def test_the_committed_params_are_those_of_run_1():
    params = read_params(COMMITTED)
    assert params.model.hidden_units == [784, 392, 196, 49]
    train = params.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (5, 128, 0.001)
    assert (params.model.name, train.augmentation, params.model.dropout) == ("mlp", "none", 0)
    assert not params.model.batch_normalization and not train.weight_decay
    assert params.prepare.validation_size == 6000
    assert len(COMMITTED.read_text().splitlines()) <= 30


@pytest.mark.parametrize(
    ("name", "value", "message"),  # one for each kind of type and range
    [
        ("train.epochs", "five", "train.epochs is 'five'. Input should be a valid integer"),
        ("train.epochs", 0, "train.epochs is 0. Input should be greater than 0"),
        ("train.epochs", None, "train.epochs is missing"),
        ("train.learning_rate", 1.5, "train.learning_rate is 1.5. Input should be less than or"),
        (
            "train.epoch",
            5,
            "train.epoch is not a known key. Check its spelling; fashion/core/param",
        ),
        ("train.learning_rate_schedule", "step", "'step'. Input should be 'constant' or 'cosine'"),
        ("train.weight_decay", -0.1, "train.weight_decay is -0.1"),
        ("model.batch_normalization", 1, "is 1. Input should be a valid boolean"),
        ("model.name", "resnet", "model.name is 'resnet'. Input should be 'mlp' or 'cnn'"),
        ("model.dropout", 1.0, "model.dropout is 1.0. Input should be less than 1"),
        ("model.filters", [], "model.filters is []"),
        ("model.hidden_units", [784, -1], "model.hidden_units.1 is -1"),
        ("seed", 2**32, "seed is 4294967296"),
        ("prepare.validation_size", 1.5, "prepare.validation_size"),
    ],
)
def test_a_wrong_param_is_named_with_what_was_expected(tmp_path, name, value, message):
    write_changed(tmp_path / "params.yaml", tuple(name.split(".")), value)
    with pytest.raises(UserError) as error:
        read_params(tmp_path / "params.yaml")
    assert message in str(error.value)
    *problems, back = str(error.value).splitlines()
    assert all(problem.startswith(str(tmp_path)) for problem in problems)
    assert back == f"`git checkout {tmp_path / 'params.yaml'}` brings the committed params back"


LAUGHS = "a0: &a0 [ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"train: [", "not YAML"),
        (b"seed: 2026-13-32\n", "not YAML"),
        (b"[" * 1000, "not YAML"),
        (COMMITTED.read_bytes() + b"seed: 43\n", 'found duplicate key "seed"'),
        (b"", "the whole file is None"),
        (f"{LAUGHS}seed: *a9\n".encode(), "a0 is not a known key"),
    ],
)
def test_other_content_is_refused_within_little_memory(tmp_path, memory_below, content, message):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with memory_below(2**26), pytest.raises(UserError) as error:
        read_params(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


@pytest.mark.parametrize(("text", "value"), [("1e-5", 1e-5), ("0.5", 0.5), ("1", 1.0)])
def test_numbers_are_read_as_dvc_writes_them(tmp_path, text, value):
    content = COMMITTED.read_text().replace("learning_rate: 0.001", f"learning_rate: {text}")
    (tmp_path / "params.yaml").write_text(content)
    assert read_params(tmp_path / "params.yaml").train.learning_rate == value


def places(section: Any, path: tuple = ()) -> list[tuple]:
    """Return where every value of a params file stands, as keys and positions."""
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
GENERATED = settings(
    max_examples=1000, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@GENERATED
@given(CHANGES)
def test_generated_params_are_refused_or_taken_as_they_are(tmp_path, change):
    """Never another error than UserError, never a value turned into another, never 2 s."""
    path = tmp_path / "params.yaml"
    try:
        write_changed(path, *change)
    except KeyError:  # nothing to delete
        return
    try:
        read = read_params(path)
    except UserError as error:
        assert "params.yaml: " in str(error)
    else:
        taken, written = read.model_dump(mode="json"), YAML(typ="safe").load(path)
        assert json.dumps(taken, sort_keys=True) == json.dumps(written, sort_keys=True)


@GENERATED
@given(st.binary(max_size=99) | st.text("&*!|>%@-?:{}[],#' \n0aT.").map(str.encode))
def test_generated_text_is_no_params_file(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml"):
        read_params(tmp_path / "params.yaml")
