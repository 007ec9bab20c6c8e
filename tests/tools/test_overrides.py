import pytest

from fashion.core.errors import UserError
from fashion.core.strict_yaml import parse_yaml
from tests.support.repository import PROJECT
from tools.overrides import replace_params, set_dotted, with_overrides, write_params

PARAMS = (PROJECT / "params.yaml").read_text()


@pytest.mark.parametrize(
    "name", ["sede", "train", "seed.x", "model.epoch", "model.units.0", "", "."]
)
def test_an_unknown_name_is_an_error_and_changes_nothing(name):
    values = {"seed": 1, "model": {"epochs": 5, "units": [1]}}
    with pytest.raises(UserError, match=r"^here: .* is not a known param"):
        set_dotted(values, name, 2, "here")
    assert values == {"seed": 1, "model": {"epochs": 5, "units": [1]}}


def test_overrides_change_only_the_named_params_of_a_copy():
    before = parse_yaml(PARAMS, "here")
    changed = with_overrides(before, {"train.epochs": 9, "seed": 1}, "here")
    assert (changed["train"]["epochs"], changed["seed"]) == (9, 1)
    assert before == parse_yaml(PARAMS, "here")
    changed["train"]["epochs"], changed["seed"] = before["train"]["epochs"], before["seed"]
    assert changed == before


@pytest.mark.parametrize(("name", "value"), [("train.epochs", 0), ("train", 3)])
def test_values_that_params_do_not_allow_are_refused(name, value):
    with pytest.raises(UserError, match=f"^here: {name} is {value}"):
        with_overrides(parse_yaml(PARAMS, "here"), {name: value}, "here")


def test_a_mistake_in_the_file_is_not_blamed_on_the_overrides():
    with pytest.raises(UserError, match=r"^params.yaml: seed is -1"):
        with_overrides(parse_yaml(PARAMS, "here") | {"seed": -1}, {"train.epochs": 9}, "there")


def test_params_of_an_older_commit_need_not_be_allowed_today():
    assert replace_params({"seed": 1}, {"seed": 2}, "here") == {"seed": 2}
    with pytest.raises(UserError, match="arithmetic is missing"):
        with_overrides({"seed": 1}, {"seed": 2}, "here")


def test_writing_changes_only_the_values_in_the_file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    write_params({"train.epochs": 97, "model.dropout": 0.25}, path)
    lines = zip(path.read_text().splitlines(), PARAMS.splitlines(), strict=True)
    different = [new.split("#")[0].strip() for new, old in lines if new != old]
    assert different == ["dropout: 0.25", "epochs: 97"]
