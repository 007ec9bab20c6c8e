import json
import re

import pandas as pd
import pytest

from fashion.core.errors import UserError
from tests.support.repository import PROJECT, Repository
from tools.report.card import (
    CARD,
    DATA_CARD,
    card,
    compare_with_noise,
    data_card,
    describe_layers,
    render_card,
)


@pytest.fixture
def toy(committed, tmp_path, monkeypatch) -> Repository:
    """A toy repository of the test's own with noise, and the working directory in it."""
    toy = committed.copy(tmp_path / "project")
    monkeypatch.chdir(toy.folder)
    return toy


def test_the_committed_card_belongs_to_the_committed_numbers(monkeypatch):
    monkeypatch.chdir(PROJECT)
    text = CARD.read_text(encoding="utf-8")
    layers = re.search(r"\| Architecture \| (.*); [\d,]+ parameters \|", text)[1]
    assert render_card(layers) == text, "`make readme` writes it again"
    try:
        assert card() == text
    except UserError as error:
        pytest.skip(f"its layers are not compared: {error}")


def test_the_committed_data_card_belongs_to_the_committed_numbers(monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert DATA_CARD.read_text(encoding="utf-8") == data_card(), "`make readme` writes it again"


def test_a_data_card_of_other_data_says_what_is_known_of_it(toy):
    counts = json.loads(toy.read("metrics/data.json"))["images_per_class"]
    text = data_card()
    assert "# Data card: toy squares" in text and "Zalando" not in text
    for name in counts["train"]:
        row = [str(counts[split][name]) for split in ("train", "validation", "test")]
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
        assert [cell.strip() for cell in line.split("|")[2:-1]] == row


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


def test_it_has_the_noise_of_this_code_params_data_and_packages_alone(toy):
    noise = json.loads(toy.read("metrics/noise.json"))
    mean = sum(noise["metrics"]["accuracy"]) / 5
    assert f" {mean:.4f} ± " in card() and "over 5 seeds, of which this model" in card()
    toy.set("seed=1")
    assert "over 5 seeds." in card()
    for name in noise["belongs_to"]:
        stale = noise | {"belongs_to": noise["belongs_to"] | {name: "another"}}
        (toy.folder / "metrics/noise.json").write_text(json.dumps(stale))
        assert " ± " not in card() and "not measured yet (`make noise`)" in card()
    (toy.folder / "metrics/noise.json").unlink()
    assert " ± " not in card()


def test_it_is_not_made_of_files_that_are_missing_or_of_another_model(toy):
    model = toy.folder / "models/model.keras"
    model.unlink()
    with pytest.raises(UserError, match=r"model\.keras: not here yet. `make` makes it"):
        card()
    model.write_text("another")
    with pytest.raises(UserError, match="`dvc checkout` restores that"):
        card()


def test_a_metric_has_its_value_interval_and_noise():
    test = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "macro_f1": 1.0, "environment": "x"}
    noise = pd.DataFrame({"macro_f1": [1.0, 3.0], "accuracy": [0.4, 0.6]})
    assert compare_with_noise(test, noise).values.tolist() == [
        ["accuracy", "0.5000 (0.4000 to 0.6000)", "0.5000 ± 0.1414"],
        ["macro f1", "1.0000", "2.0000 ± 1.4142"],
    ]
