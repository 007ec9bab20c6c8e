import io
import json
import re
import zipfile
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from fashion.core.params import read_params
from stages import StagePaths
from stages.train import train
from tests.support.networks import probabilities_by_numpy
from tests.support.repository import Repository


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


def read_json(folder, path: str) -> dict:
    return json.loads((folder / path).read_bytes())


def test_test_scores_equal_a_second_computation_from_the_saved_weights(built, computed):
    labels, probabilities = computed("test")
    predicted, scores = probabilities.argmax(axis=1), read_json(built, "metrics/test.json")
    low, high = scores["accuracy_interval"]
    assert low < scores["accuracy"] < high
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean(), abs=1e-6)
    macro_f1 = f1_score(labels, predicted, average="macro")
    assert scores["macro_f1"] == pytest.approx(macro_f1, abs=1e-6)
    assert scores["loss"] == pytest.approx(log_loss(labels, probabilities), abs=1e-5)
    per_class = pd.read_csv(built / "metrics/per_class.csv")
    expected = np.transpose(precision_recall_fscore_support(labels, predicted, zero_division=0))
    np.testing.assert_allclose(per_class.drop(columns="class"), expected, atol=1e-6)


def test_training_scores_equal_a_second_computation_on_the_validation_split(built, computed):
    labels, probabilities = computed("validation")
    scores, history = (
        read_json(built, "metrics/train.json"),
        pd.read_csv(built / "plots/history.csv"),
    )
    loss, accuracy = (
        log_loss(labels, probabilities),
        (probabilities.argmax(axis=1) == labels).mean(),
    )
    assert (scores["val_loss"], scores["val_accuracy"]) == pytest.approx((loss, accuracy), abs=1e-5)
    assert list(history.columns) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["epoch"].tolist() == [1, 2]
    last = history.iloc[-1]
    assert scores["loss_gap"] == pytest.approx(last["val_loss"] - last["loss"], abs=2e-6)
    assert scores["val_loss"] == last["val_loss"]
    # a running mean over the epoch, so near the mean before and after it
    assert last["loss"] == pytest.approx(log_loss(*computed("train")), abs=0.5)


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


def test_predictions_are_in_the_order_of_the_test_images(built, computed):
    labels, probabilities = computed("test")
    table = pd.read_csv(built / "plots/predictions.csv")
    names = np.array(YAML(typ="safe").load(built / "dataset.yaml")["class_names"])
    assert list(table.columns) == ["actual", "predicted", "confidence", "loss"]
    assert table["actual"].tolist() == names[labels].tolist()
    assert table["predicted"].tolist() == names[probabilities.argmax(axis=1)].tolist()
    np.testing.assert_allclose(table["confidence"], probabilities.max(axis=1), atol=2e-5)
    of_actual = probabilities[range(len(labels)), labels]
    np.testing.assert_allclose(table["loss"], -np.log(of_actual), rtol=1e-3, atol=2e-5)


def test_pieces_smaller_than_the_test_split_give_the_same_results(repository):
    before, path = repository.results(), repository.folder / "stages/evaluate.py"
    assert "PIECE = 10_000" in path.read_text()
    path.write_text(path.read_text().replace("PIECE = 10_000", "PIECE = 150"))
    for result in ("metrics/test.json", "metrics/per_class.csv", "plots/predictions.csv"):
        (repository.folder / result).unlink()
    repository.stages("evaluate")
    assert repository.results() == before


def test_the_cnn_has_the_same_bytes_whatever_the_number_of_cores(repository):
    repository.set("model.name=cnn", "model.filters=[4, 8]", "train.epochs=1")
    paths, results = ("models/model.keras", "plots/history.csv", "metrics/train.json"), []
    for cores in ("0", "0,1"):
        repository.stages("train", cores=cores)
        results.append([repository.read(path) for path in paths])
    assert results[0] == results[1]
    with zipfile.ZipFile(io.BytesIO(results[0][0])) as archive:
        assert json.loads(archive.read("config.json"))["config"]["name"] == "cnn"


def test_another_environment_is_said_by_the_stage_and_in_its_metrics(repository):
    pins = repository.folder / "fashion/model/requirements.txt"
    pins.write_text(re.sub("keras==.*", "keras==1.2.3", pins.read_text()))
    text = f"native arithmetic; keras {version('keras')}, not 1.2.3"
    output = repository.stages("prepare", "train", "evaluate", ARITHMETIC="native")
    for stage, metrics in (("prepare", "data"), ("train", "train"), ("evaluate", "test")):
        assert f"{stage}: computed with {text}\n" in output
        assert read_json(repository.folder, f"metrics/{metrics}.json")["environment"] == text


def test_dvc_repro_repairs_corrupted_outputs(toy: Repository):
    before = toy.results()
    for path in ("data/prepared/train_images.npy", "models/model.keras", "metrics/test.json"):
        file = toy.folder / path
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content[:-1])
    (toy.folder / "plots/loss.png").unlink()
    toy.dvc("repro")
    assert toy.results() == before
