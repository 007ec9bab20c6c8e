import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from fashion.core.dataset import read_dataset
from fashion.core.params import read_params
from stages import StagePaths, evaluate
from stages.train import train
from tests.stages.running import run_stage
from tests.support.networks import probabilities_by_numpy


@pytest.fixture(scope="module")
def computed(built):
    """Return a function that gives the labels of a split and probabilities computed by NumPy."""
    model, prepared = (built / "models/model.keras").read_bytes(), built / "data/prepared"

    def of(split: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = (
            np.load(prepared / f"{split}_{part}.npy") for part in ("images", "labels")
        )
        return labels, probabilities_by_numpy(model, images)

    return of


def test_test_scores_and_predictions_equal_a_second_computation_from_the_saved_weights(
    built, computed
):
    labels, probabilities = computed("test")
    predicted = probabilities.argmax(axis=1)
    scores = json.loads((built / "metrics/test.json").read_bytes())
    low, high = scores["accuracy_interval"]
    assert low < scores["accuracy"] < high
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean(), abs=1e-6)
    macro_f1 = f1_score(labels, predicted, average="macro")
    assert scores["macro_f1"] == pytest.approx(macro_f1, abs=1e-6)
    assert scores["loss"] == pytest.approx(log_loss(labels, probabilities), abs=1e-5)
    per_class = pd.read_csv(built / "metrics/per_class.csv")
    expected = np.transpose(precision_recall_fscore_support(labels, predicted, zero_division=0))
    np.testing.assert_allclose(per_class.drop(columns="class"), expected, atol=1e-6)
    table = pd.read_csv(built / "plots/predictions.csv")
    names = np.array(read_dataset(built / "dataset.yaml").class_names)
    assert list(table.columns) == ["actual", "predicted", "confidence", "loss"]
    assert table["actual"].tolist() == names[labels].tolist()
    assert table["predicted"].tolist() == names[predicted].tolist()
    np.testing.assert_allclose(table["confidence"], probabilities.max(axis=1), atol=2e-5)
    of_actual = probabilities[range(len(labels)), labels]
    np.testing.assert_allclose(table["loss"], -np.log(of_actual), rtol=1e-3, atol=2e-5)


def test_training_scores_equal_a_second_computation_on_the_validation_split(built, computed):
    labels, probabilities = computed("validation")
    scores = json.loads((built / "metrics/train.json").read_bytes())
    history = pd.read_csv(built / "plots/history.csv")
    expected = log_loss(labels, probabilities), (probabilities.argmax(axis=1) == labels).mean()
    assert (scores["val_loss"], scores["val_accuracy"]) == pytest.approx(expected, abs=1e-5)
    assert list(history.columns) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["epoch"].tolist() == [1, 2] and history["loss"][1] < history["loss"][0]
    last = history.iloc[-1]
    assert scores["loss_gap"] == pytest.approx(last["val_loss"] - last["loss"], abs=2e-6)
    assert scores["val_loss"] == last["val_loss"]
    # a running mean over the epoch, so near the mean before and after it
    assert last["loss"] == pytest.approx(log_loss(*computed("train")), abs=0.5)


def test_test_images_in_smaller_pieces_get_equal_scores(repository, monkeypatch):
    before = repository.results()
    for path in ("metrics/test.json", "metrics/per_class.csv", "plots/predictions.csv"):
        (repository.folder / path).unlink()
    monkeypatch.setattr(evaluate, "PIECE", 150)
    assert run_stage(repository.folder, "evaluate") == ""
    assert repository.results() == before


def test_train_hands_the_seed_the_params_and_both_splits_to_fit(built, monkeypatch):
    from fashion.model import backend, training

    class Handed(Exception):
        """Ends the stage before it trains and writes."""

    def fit(model, training_data, validation_data, settings, *, seed):
        raise Handed(model.name, len(training_data[1]), len(validation_data[1]), settings, seed)

    seeded = []
    monkeypatch.setattr(backend, "make_deterministic", lambda *arguments: seeded.append(arguments))
    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.chdir(built)
    params = read_params().model_copy(update={"seed": 7})
    with pytest.raises(Handed) as handed:
        train(params, StagePaths("train"))
    assert handed.value.args == ("mlp", 1000, 200, params.train, 7) and seeded == [(7, None)]
