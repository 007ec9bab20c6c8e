import io
import json
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score, f1_score


def forward_pass(model: bytes, images: np.ndarray) -> np.ndarray:
    """Compute probabilities from the weights in a .keras file, in float64 NumPy.

    No Keras, no TensorFlow.
    """
    with (
        zipfile.ZipFile(io.BytesIO(model)) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights,
    ):
        described = json.loads(archive.read("config.json"))["config"]["layers"]
        count = sum(layer["class_name"] == "Dense" for layer in described)
        dense = [
            weights[f"layers/{name}/vars"]
            for name in ["dense", *(f"dense_{i}" for i in range(1, count))]
        ]
        layers = [
            (np.array(layer["0"], np.float64), np.array(layer["1"], np.float64)) for layer in dense
        ]
    values = images.reshape(len(images), -1) / 255
    for kernel, bias in layers[:-1]:
        values = np.maximum(values @ kernel + bias, 0)
    kernel, bias = layers[-1]
    scores = np.exp(values @ kernel + bias)
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.fixture
def computed(repository):
    """Labels and probabilities of the test images, computed apart from the pipeline."""
    prepared = repository.folder / "data/prepared"
    probabilities = forward_pass(
        repository.read("models/model.keras"), np.load(prepared / "test_images.npy")
    )
    return np.load(prepared / "test_labels.npy"), probabilities


def test_scores_equal_a_second_computation_from_the_saved_weights(repository, computed):
    labels, probabilities = computed
    scores, predicted = (
        json.loads(repository.read("metrics/test.json")),
        probabilities.argmax(axis=1),
    )
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-6)
    assert scores["macro_f1"] == pytest.approx(
        f1_score(labels, predicted, average="macro"), abs=1e-6
    )
    assert scores["loss"] == pytest.approx(
        -np.log(probabilities[range(len(labels)), labels]).mean(), abs=1e-5
    )
    assert scores["accuracy_interval"][0] < scores["accuracy"] < scores["accuracy_interval"][1]


def test_predictions_are_in_the_order_of_the_test_images(repository, computed):
    labels, probabilities = computed
    table = pd.read_csv(repository.folder / "plots/predictions.csv")
    names = np.array(YAML(typ="safe").load(repository.read("dataset.yaml"))["class_names"])
    assert list(table.columns) == ["actual", "predicted", "confidence", "loss"]
    assert table["actual"].tolist() == names[labels].tolist()
    assert table["predicted"].tolist() == names[probabilities.argmax(axis=1)].tolist()
    np.testing.assert_allclose(table["confidence"], probabilities.max(axis=1), atol=2e-5)
    of_actual = probabilities[range(len(labels)), labels]
    np.testing.assert_allclose(table["loss"], -np.log(of_actual), rtol=1e-3, atol=2e-5)


def test_per_class_scores_follow_from_the_predictions(repository):
    predictions = pd.read_csv(repository.folder / "plots/predictions.csv")
    per_class = pd.read_csv(repository.folder / "metrics/per_class.csv").set_index("class")
    for name, row in per_class.iterrows():
        hits = ((predictions["actual"] == name) & (predictions["predicted"] == name)).sum()
        assert row["support"] == (predictions["actual"] == name).sum() == 40
        assert row["recall"] == pytest.approx(hits / 40, abs=1e-6)
        assert row["precision"] == pytest.approx(
            hits / max(1, (predictions["predicted"] == name).sum()), abs=1e-6
        )


def test_train_json_is_the_last_row_of_the_history(repository):
    history = pd.read_csv(repository.folder / "plots/history.csv")
    assert list(history.columns) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["epoch"].tolist() == [1, 2]
    kept, last = json.loads(repository.read("metrics/train.json")), history.iloc[-1]
    assert kept["epoch"] == 2
    assert kept["val_loss"] == last["val_loss"] and kept["val_accuracy"] == last["val_accuracy"]
    assert kept["loss_gap"] == pytest.approx(last["val_loss"] - last["loss"], abs=1e-6)


def test_the_cnn_has_the_same_bytes_whatever_the_number_of_cores(repository):
    repository.set("model.name=cnn", "model.filters=[4, 8]", "train.epochs=1")
    results = []
    for cores in ("0", "0,1"):
        repository.stages("train", cores=cores)
        results.append(
            [
                repository.read(path)
                for path in ("models/model.keras", "plots/history.csv", "metrics/train.json")
            ]
        )
    assert results[0] == results[1]
    with zipfile.ZipFile(io.BytesIO(repository.read("models/model.keras"))) as archive:
        assert json.loads(archive.read("config.json"))["config"]["name"] == "cnn"


def test_the_environment_is_recorded_outside_the_lock(repository):
    assert json.loads(repository.read("metrics/environment.json"))["packages"]["tensorflow"]
    assert "environment.json" not in repository.read("dvc.lock").decode()


def test_native_arithmetic_is_named_in_metrics_and_record(repository):
    repository.stages("train", "evaluate", TF_ENABLE_ONEDNN_OPTS="0")
    for path in ("metrics/train.json", "metrics/test.json"):
        found = json.loads(repository.read(path))
        assert found["arithmetic"] == "native arithmetic (TF_ENABLE_ONEDNN_OPTS=0)"
    assert (
        json.loads(repository.read("metrics/environment.json"))["settings"]["TF_ENABLE_ONEDNN_OPTS"]
        == "0"
    )


@pytest.mark.parametrize(
    ("path", "damage", "stage", "message"),
    [
        (
            "models/model.keras",
            "truncated",
            "evaluate",
            "models/model.keras: not a whole Keras model",
        ),
        (
            "data/prepared/train_images.npy",
            "truncated",
            "train",
            "data/prepared: missing or damaged",
        ),
        ("data/prepared/test_images.npy", "garbled", "plot", "data/prepared: missing or damaged"),
        ("data/prepared/test_labels.npy", "deleted", "plot", "data/prepared: missing or damaged"),
        (
            "data/raw/t10k-labels-idx1-ubyte.gz",
            "truncated",
            "prepare",
            "t10k-labels-idx1-ubyte.gz: not a whole gzip file",
        ),
        (
            "data/raw/t10k-labels-idx1-ubyte.gz",
            "garbled",
            "prepare",
            "t10k-labels-idx1-ubyte.gz: not a whole gzip file",
        ),
        (
            "data/raw/t10k-labels-idx1-ubyte.gz",
            "deleted",
            "prepare",
            "t10k-labels-idx1-ubyte.gz: no such file",
        ),
    ],
)
def test_a_damaged_input_is_one_message(repository, path, damage, stage, message):
    file = repository.folder / path
    content = file.read_bytes()
    file.unlink()
    if damage != "deleted":
        file.write_bytes(
            content[: len(content) // 2] if damage == "truncated" else b"garbled" + content[7:]
        )
    output = repository.python(f"stages.{stage}", status=1)
    assert output.startswith(f"{stage}: {message}") or output.startswith(
        f"{stage}: {path.rpartition('/')[0]}/{message}"
    )
    assert len(output.splitlines()) == 1


def test_dvc_repro_repairs_damaged_outputs(toy):
    before = toy.results()
    for path in ("data/prepared/train_images.npy", "models/model.keras", "metrics/test.json"):
        file = toy.folder / path
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content[:-1])
    (toy.folder / "plots/loss.png").unlink()
    toy.dvc("repro")
    assert toy.results() == before
