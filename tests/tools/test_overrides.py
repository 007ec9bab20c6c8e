import pytest
from ruamel.yaml import YAML

from fashion.core.errors import UserError
from tests.support.repository import PROJECT
from tools.overrides import set_dotted, with_overrides, write_params

PARAMS = (PROJECT / "params.yaml").read_text()


def test_a_value_is_set_where_its_name_says_and_nowhere_else():
    values = {"seed": 1, "train": {"epochs": 5, "deep": {"er": [1]}}}
    set_dotted(values, "seed", 2)
    set_dotted(values, "train.epochs", 6)
    set_dotted(values, "train.deep.er", [2, 3])
    assert values == {"seed": 2, "train": {"epochs": 6, "deep": {"er": [2, 3]}}}


@pytest.mark.parametrize("name", ["sede", "train", "seed.x", "model.epoch", "", "."])
def test_a_name_that_is_not_there_is_an_error_and_changes_nothing(name):
    values = {"seed": 1, "model": {"epochs": 5}}
    with pytest.raises(KeyError):
        set_dotted(values, name, 2)
    assert values == {"seed": 1, "model": {"epochs": 5}}


def test_what_they_are_set_over_stays_as_it_was():
    before = YAML(typ="safe").load(PARAMS)
    changed = with_overrides(before, {"train.epochs": 9, "seed": 1}, "here")
    assert (changed["train"]["epochs"], changed["seed"]) == (9, 1)
    assert before == YAML(typ="safe").load(PARAMS)
    changed["train"]["epochs"], changed["seed"] = before["train"]["epochs"], before["seed"]
    assert changed == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.epoch": 9}, "^here: train.epoch is not a known param"),
        ({"train.epochs": 0}, "^here: train.epochs is 0"),
        ({"train": 3}, "^here: train is 3"),
    ],
)
def test_what_params_do_not_allow_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        with_overrides(YAML(typ="safe").load(PARAMS), overrides, "here")


def test_in_the_file_a_line_changes_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    write_params({"train.epochs": 97, "model.dropout": 0.25})
    lines = (tmp_path / "params.yaml").read_text().splitlines()
    different = [new for new, old in zip(lines, PARAMS.splitlines(), strict=True) if new != old]
    assert [line.split("#")[0].strip() for line in different] == ["dropout: 0.25", "epochs: 97"]
