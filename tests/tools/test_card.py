import json
import re

import pandas as pd
import pytest

from fashion.core.errors import UserError
from tests.support.repository import PROJECT, TOY_CLASSES, Repository
from tools.report.card import (
    CARD,
    DATA_CARD,
    compare_with_noise,
    describe_layers,
    render_cards,
    render_data_card,
    render_model_card,
    text_table,
)


@pytest.fixture
def toy(committed, tmp_path, monkeypatch) -> Repository:
    """Return a copy of a toy repository with noise, which is also the working directory."""
    toy = committed.copy(tmp_path / "project")
    monkeypatch.chdir(toy.folder)
    return toy


def test_the_committed_cards_belong_to_the_committed_numbers(monkeypatch):
    monkeypatch.chdir(PROJECT)
    text, hint = CARD.read_text(encoding="utf-8"), "`make readme` writes it again"
    layers = re.search(r"\| Architecture \| (.*); [\d,]+ parameters \|", text)[1]
    assert render_model_card(layers) == text, hint
    assert render_data_card() == DATA_CARD.read_text(encoding="utf-8"), hint
    try:
        assert render_cards()[CARD] == text, hint
    except UserError as error:
        pytest.skip(f"the layers of the model are not compared: {error}")


def test_a_data_card_of_other_data_says_what_is_known_about_it(toy):
    counts = json.loads(toy.read("metrics/data.json"))["images_per_class"]
    text = render_data_card()
    assert "# Data card: toy squares" in text and "Zalando" not in text
    rows = [re.split(r"\s*(?<!\\)\|\s*", line)[1:-1] for line in text.splitlines()]
    for name in TOY_CLASSES:
        numbers = [str(counts[split][name]) for split in ("train", "validation", "test")]
        assert [name.replace("|", "\\|"), *numbers] in rows


def test_its_loss_and_optimizer_are_those_of_the_code():
    sources = [path.read_text() for path in (PROJECT / "fashion/model").glob("*.py")]
    loss = re.search(r'loss="(\w+)"', "\n".join(sources))[1]
    loss = loss.replace("_", " ").replace("crossentropy", "cross-entropy")
    optimizer = re.search(r"\(keras\.optimizers\.(\w+)\):", "\n".join(sources))[1]
    row = re.search(r"\| Training \| .*", (PROJECT / CARD).read_text(encoding="utf-8"))[0]
    assert f" {optimizer}, " in row and row.endswith(f"; {loss} |")


def test_the_layers_are_those_of_the_saved_model(built):
    text = "Flatten, Dense 32 → 16 with ReLU, Dense 10 with softmax"
    assert describe_layers(built / "models/model.keras") == text


def test_it_has_the_noise_of_this_code_params_and_data_alone(toy):
    noise = json.loads(toy.read("metrics/noise.json"))
    mean, text = sum(noise["metrics"]["accuracy"]) / 5, render_cards()[CARD]
    assert f" {mean:.4f} ± " in text and "over 5 seeds, and this model is\none of these" in text
    toy.set("seed=1")  # as if this model came from a seed that the noise lacks
    assert "over 5 seeds." in render_model_card("")
    for name in noise["belongs_to"]:
        stale = noise | {"belongs_to": noise["belongs_to"] | {name: "another"}}
        (toy.folder / "metrics/noise.json").write_text(json.dumps(stale))
        text = render_model_card("")
        assert " ± " not in text and "not measured yet (`make noise`)" in text
    (toy.folder / "metrics/noise.json").unlink()
    assert " ± " not in render_model_card("")


@pytest.mark.parametrize("path", ["models/model.keras", "metrics/test.json"])
def test_missing_or_stale_results_get_no_card(toy, path):
    (toy.folder / path).unlink()
    with pytest.raises(UserError, match="`dvc repro` rebuilds stale ones"):
        render_cards()


def test_a_metric_has_its_value_interval_and_noise():
    test = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "macro_f1": 1.0, "environment": "x"}
    noise = pd.DataFrame({"macro_f1": [1.0, 3.0], "accuracy": [0.4, 0.6]})
    assert compare_with_noise(test, noise).values.tolist() == [
        ["accuracy", "0.5000 (0.4000 to 0.6000)", "0.5000 ± 0.1414"],
        ["macro f1", "1.0000", "2.0000 ± 1.4142"],
    ]


def test_a_table_without_rows_has_its_titles():
    table = text_table(pd.DataFrame({"actual": [], "images": []}))
    assert table.splitlines()[0].split() == ["|", "actual", "|", "images", "|"]
