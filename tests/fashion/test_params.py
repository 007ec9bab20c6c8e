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


def changed(tmp_path: Path, name: str, value: object) -> Path:
    params = YAML(typ="safe").load(COMMITTED)
    *sections, key = name.split(".")
    section = params
    for part in sections:
        section = section[part]
    if value is None:
        del section[key]
    else:
        section[key] = value
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(params, path)
    return path


def test_the_committed_params_are_those_of_run_1():
    params = read_params(COMMITTED)
    assert params.model.hidden_units == [784, 392, 196, 49]
    train = params.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (5, 128, 0.001)
    beyond = {"dropout", "batch_normalization", "weight_decay"}
    values = params.model.model_dump() | params.train.model_dump()
    assert not any(values[name] for name in beyond) and (
        values["name"],
        values["augmentation"],
    ) == ("mlp", "none")
    assert params.prepare.validation_size == 6000


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.epochs", "five", "train.epochs is 'five'. Input should be a valid integer"),
        ("train.epochs", 0, "train.epochs is 0. Input should be greater than 0"),
        ("train.epochs", True, "train.epochs is True. Input should be a valid integer"),
        ("train.epochs", 2.0, "train.epochs is 2.0. Input should be a valid integer"),
        ("train.epochs", None, "train.epochs is missing"),
        (
            "train.learning_rate",
            -0.1,
            "train.learning_rate is -0.1. Input should be greater than 0",
        ),
        ("train.learning_rate", float("nan"), "train.learning_rate is nan"),
        ("train.epoch", 5, "train.epoch is not a known param"),
        ("trian", {"epochs": 5}, "trian is not a known param"),
        ("train.learning_rate_schedule", "step", "'step'. Input should be 'constant' or 'cosine'"),
        (
            "train.augmentation",
            True,
            "train.augmentation is True. Input should be 'none', 'flip' or 'flip_shift'",
        ),
        ("train.weight_decay", -0.1, "train.weight_decay is -0.1"),
        (
            "model.batch_normalization",
            1,
            "model.batch_normalization is 1. Input should be a valid boolean",
        ),
        ("model.name", "resnet", "model.name is 'resnet'. Input should be 'mlp' or 'cnn'"),
        ("model.dropout", 1.0, "model.dropout is 1.0. Input should be less than 1"),
        ("model.filters", [], "model.filters is []"),
        ("model.hidden_units", [784, -1], "model.hidden_units.1 is -1"),
        ("model.hidden_units", 784, "model.hidden_units is 784"),
        ("seed", -1, "seed is -1"),
        ("seed", 2**32, "seed is 4294967296"),
        ("prepare.validation_size", 0, "prepare.validation_size"),
        ("prepare.validation_size", 1.5, "prepare.validation_size"),
    ],
)
def test_a_wrong_param_is_named_with_what_was_expected(tmp_path, name, value, message):
    with pytest.raises(UserError) as error:
        read_params(changed(tmp_path, name, value))
    assert message in str(error.value)
    *problems, back = str(error.value).splitlines()
    assert all(problem.startswith(str(tmp_path)) for problem in problems)
    assert back == f"`git checkout {tmp_path / 'params.yaml'}` brings the committed params back"


def test_the_validation_split_may_be_a_share(tmp_path):
    path = changed(tmp_path, "prepare.validation_size", 0.1)
    assert read_params(path).prepare.validation_size == 0.1


def test_params_yaml_has_the_knobs_and_nothing_else():
    assert len(COMMITTED.read_text().splitlines()) <= 30
    assert list(YAML(typ="safe").load(COMMITTED)) == ["seed", "prepare", "model", "train"]


def test_every_wrong_param_is_named_at_once(tmp_path):
    path = changed(tmp_path, "train", {"epochs": -1, "batch_size": "x", "learning_rate": 0.1})
    with pytest.raises(UserError) as error:
        read_params(path)
    assert "train.epochs" in str(error.value) and "train.batch_size" in str(error.value)


LAUGHS = "a0: &a0 [ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    "content",
    [
        b"train: [",
        b"\xff\xfe\x00",
        b"",
        b"- 1\n",
        b"seed: 2026-13-32\n",
        b"[" * 10_000,
        f"{LAUGHS}seed: *a9\n".encode(),
    ],
)
def test_what_is_no_params_file_is_refused(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(("text", "value"), [("1e-5", 1e-5), ("0.5", 0.5), ("1", 1.0)])
def test_numbers_are_read_as_dvc_writes_them(tmp_path, text, value):
    content = COMMITTED.read_text().replace("learning_rate: 0.001", f"learning_rate: {text}")
    (tmp_path / "params.yaml").write_text(content)
    assert read_params(tmp_path / "params.yaml").train.learning_rate == value


def test_a_param_that_stands_there_twice_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text(COMMITTED.read_text() + "seed: 43\n")
    with pytest.raises(UserError, match="seed"):
        read_params(tmp_path / "params.yaml")


def test_a_missing_params_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_params(tmp_path / "params.yaml")


def test_a_stage_stops_with_status_1_and_one_message(repository):
    repository.set("train.epochs=many")
    output = repository.python("stages.train", status=1)
    assert output == (
        "train: params.yaml: train.epochs is 'many'. Input should be a valid integer\n"
        "`git checkout params.yaml` brings the committed params back\n"
    )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3)
)
STRANGE = (
    st.binary(max_size=99)
    | st.text(max_size=99).map(str.encode)
    | st.text("&*!|>%@-?:{}[],#' \n0aT.").map(str.encode)
)


def places(section: Any, path: tuple = ()) -> list[tuple]:
    """Where every value of a params file stands, as keys and positions."""
    items = (
        section.items()
        if isinstance(section, dict)
        else enumerate(section)
        if isinstance(section, list)
        else []
    )
    return [place for key, inner in items for place in [(*path, key), *places(inner, (*path, key))]]


PARAMS = YAML(typ="safe").load(COMMITTED)


CHANGES = st.tuples(
    st.sampled_from(places(PARAMS)),
    st.sampled_from(["set", "delete", "add"]),
    VALUES,
    st.text(max_size=9),
)


def refused_or_taken_as_they_are(path: Path, change: tuple) -> None:
    """Change params, and read them: that raises UserError, or returns the very values."""
    place, action, value, name = change
    params = copy.deepcopy(PARAMS)
    section = params
    for key in place[:-1]:
        section = section[key]
    if action == "delete":
        del section[place[-1]]
    elif action == "set" or isinstance(section, list):
        section[place[-1]] = value
    else:
        section[name] = value
    YAML(typ="safe").dump(params, path)
    try:
        read = read_params(path)
    except UserError as error:
        assert "params.yaml: " in str(error)
    else:
        taken = read.model_dump(mode="json", exclude_none=True)
        assert json.dumps(taken, sort_keys=True) == json.dumps(params, sort_keys=True)


@settings(
    max_examples=1000, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CHANGES)
def test_generated_params_are_refused_or_taken_as_they_are(tmp_path, change):
    """Never another error than UserError, never a value turned into another, never 2 s."""
    refused_or_taken_as_they_are(tmp_path / "params.yaml", change)


@settings(
    max_examples=50, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CHANGES)
def test_generated_params_never_take_a_gib_of_memory(tmp_path, memory_below, change):
    """Fewer of them, as memory is counted slowly."""
    with memory_below(2**30):
        refused_or_taken_as_they_are(tmp_path / "params.yaml", change)


@settings(
    max_examples=1000, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STRANGE)
def test_generated_text_is_no_params_file(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml"):
        read_params(tmp_path / "params.yaml")
