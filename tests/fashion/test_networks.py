import json
import time
import zipfile
from typing import get_args

import numpy as np
import pytest

from fashion.core.errors import FileError
from fashion.core.params import Model
from fashion.model.backend import keras, make_deterministic
from fashion.model.networks import NETWORKS, build, load_model, save_model
from tests.support.networks import model_settings, probabilities_by_numpy

# From black to as bright as can be, so that the predictions differ much.
IMAGES = (
    np.random.default_rng(0).integers(0, 256, (20, 5, 4)) * np.linspace(0, 1, 20)[:, None, None]
).astype(np.uint8)
DEEP = {"batch_normalization": True, "dropout": 0.25}


def small(**changes) -> keras.Sequential:
    """Return a network without zeros in its weights and biases, so that none can be forgotten."""
    make_deterministic(1)
    model, random = build(model_settings(**changes), (5, 4), classes=3), np.random.default_rng(1)
    model.set_weights([random.uniform(0.1, 0.9, weights.shape) for weights in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
            kernel, *bias = layer.get_weights()
            # so that features are neither all 0 nor so large that all images are alike
            mean, deviation = (0.3, 0.3) if kernel.ndim == 4 else (0, 0.5)
            layer.set_weights([random.normal(mean, deviation, kernel.shape), *bias])
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    save_model(small(), path)
    return path.read_bytes()


@pytest.fixture
def saved(path, saved_bytes):
    path.write_bytes(saved_bytes)
    return path


def test_every_name_of_a_network_that_params_may_have_is_in_the_table():
    assert set(get_args(Model.model_fields["name"].annotation)) == set(NETWORKS)


HIDDEN = ["Dense", "BatchNormalization", "ReLU", "Dropout"]
BLOCK = ["Conv2D", "BatchNormalization", "ReLU"] * 2
CNN = [*BLOCK, "MaxPooling2D", *BLOCK, "GlobalAveragePooling2D", "Dropout"]


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({"hidden_units": []}, ["Rescaling", "Flatten"]),  # logistic regression
        ({}, ["Rescaling", "Flatten", "Dense", "Dense"]),
        (DEEP, ["Rescaling", "Flatten", *HIDDEN, *HIDDEN]),
        ({"name": "cnn", "dropout": 0.25}, ["Rescaling", "Reshape", *CNN]),
    ],
)
def test_a_network_has_the_layers_of_its_params_and_computes_what_numpy_does(path, changes, layers):
    model = small(**changes)
    assert [type(layer).__name__ for layer in model.layers] == [*layers, "Dense"]
    dropouts = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert set(dropouts) <= {0.25}
    save_model(model, path)
    loaded = load_model(path)
    assert (loaded.inputs[0].shape, loaded.inputs[0].dtype) == ((None, 5, 4), "uint8")
    probabilities = loaded(IMAGES).numpy()
    np.testing.assert_array_equal(probabilities, model(IMAGES).numpy())
    expected = probabilities_by_numpy(path.read_bytes(), IMAGES)
    assert np.ptp(expected, axis=0).max() > 0.01  # so that agreement says something
    assert (probabilities.shape, probabilities.dtype) == ((20, 3), np.float32)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        # weights and biases: 784 x 784 + 784 = 615,440; 784 x 392 + 392 = 307,720;
        # 392 x 196 + 196 = 77,028; 196 x 49 + 49 = 9,653; 49 x 10 + 10 = 500
        ({"hidden_units": [784, 392, 196, 49]}, 1_010_341),
        # no biases where the normalization has its own; 784 x 7, 7 x 6; 4 x 7, 4 x 6; 6 x 10 + 10
        (DEEP, 784 * 7 + 7 * 6 + 28 + 24 + 70),
        # 9 weights a pair of channels: 1-16-16, 16-32-32, 32-64-64; 4 a channel of each
        # normalization; 64 x 10 + 10
        (
            {"name": "cnn", "filters": [16, 32, 64]},
            9 * (16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 8 * (16 + 32 + 64) + 650,
        ),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(changes, parameters):
    assert build(model_settings(**changes), (28, 28), 10).count_params() == parameters


@pytest.mark.parametrize("changes", [DEEP, {"name": "cnn"}])
def test_normalization_is_computed_in_float64_by_keras_own_layers(path, changes):
    """In float32 its bits would depend on the CPU: `make portable` shows it."""
    save_model(small(**changes), path)
    with zipfile.ZipFile(path) as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert {layer["module"] for layer in layers} == {"keras.layers"}
    kinds = {layer["class_name"]: str(layer["config"]["dtype"]) for layer in layers}
    assert "float64" in kinds["BatchNormalization"] and "float32" in kinds["Dense"]


def test_equal_models_give_equal_bytes_at_any_time_and_in_any_session(tmp_path, saved_bytes):
    time.sleep(2.1)  # the zip format keeps times in steps of two seconds
    save_model(small(), tmp_path / "models" / "a.keras")
    keras.utils.clear_session()  # starts the numbers in layers' names anew, as a new process does
    save_model(small(), tmp_path / "models" / "b.keras")
    saved = {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()}
    assert saved == {"a.keras": saved_bytes, "b.keras": saved_bytes}


def test_the_optimizer_is_not_saved_and_the_model_keeps_it(path):
    model = small()
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    model.train_on_batch(IMAGES, np.zeros(20))
    save_model(model, path)
    assert model.optimizer.iterations == 1
    loaded = load_model(path)
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded(IMAGES).numpy(), model(IMAGES).numpy())


def test_a_model_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.txt"  # Keras refuses the suffix
    path.write_text("old")
    with pytest.raises(ValueError, match="model"):
        save_model(small(), path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"model.txt": "old"}


def test_a_missing_model_is_reported(path):
    with pytest.raises(FileError, match=r"model\.keras: no such model"):
        load_model(path)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "text": lambda content: b"not a model",
    "truncated": lambda content: content[:-100],
    "a bit of the weights": lambda content: flipped(content, -2000),
    "a bit of the configuration": lambda content: flipped(content, 1000),
}
# whole archives; None leaves an entry out
REWRITES = {
    "weights missing": lambda name, entry: None if name.endswith("h5") else entry,
    "configuration missing": lambda name, entry: None if name == "config.json" else entry,
    "weights halved": lambda name, entry: entry[:9000] if name.endswith("h5") else entry,
    "weights of another shape": lambda _, entry: entry.replace(b'"units": 7', b'"units": 8'),
    "an unknown layer": lambda _, entry: entry.replace(b'"Dense"', b'"Denser"'),
    "an argument of a later Keras": lambda _, entry: entry.replace(
        b'"units": 7', b'"units": 7, "new_in_keras_9": true'
    ),
}


@pytest.mark.parametrize("damage", [*DAMAGES, *REWRITES])
def test_a_corrupted_model_is_reported(saved, damage):
    if damage in DAMAGES:
        saved.write_bytes(DAMAGES[damage](saved.read_bytes()))
    else:
        with zipfile.ZipFile(saved) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(saved, "w") as archive:
            for name, entry in entries.items():
                if (entry := REWRITES[damage](name, entry)) is not None:
                    archive.writestr(name, entry)
    with pytest.raises(FileError) as error:
        load_model(saved)
    assert str(error.value) == f"{saved}: not a whole Keras model of this Keras version"


def test_a_model_that_brings_code_along_is_refused(path):
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)]).save(path)
    with pytest.raises(FileError, match="not a whole Keras model"):
        load_model(path)
