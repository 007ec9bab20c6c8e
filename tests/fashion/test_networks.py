import json
import zipfile
from typing import get_args

import numpy as np
import pytest

from fashion.core.errors import FileError, UserError
from fashion.core.params import Model
from fashion.model.backend import keras, make_deterministic
from fashion.model.networks import build, load_model, save_model
from tests.support.networks import model_settings, probabilities_by_numpy

# From black to bright, so that the predictions differ much.
IMAGES = (
    np.random.default_rng(0).integers(0, 256, (20, 5, 4)) * np.linspace(0, 1, 20)[:, None, None]
).astype(np.uint8)
DEEP = {"batch_normalization": True, "dropout": 0.25}


def small(**changes) -> keras.Sequential:
    """Return a network without zeros in its weights and biases, so that each has an effect."""
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
    """Return the path of a model that does not exist yet."""
    return tmp_path / "model.keras"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    """Return the bytes of a saved mlp."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    save_model(small(), path)
    return path.read_bytes()


@pytest.mark.parametrize("name", get_args(Model.model_fields["name"].annotation))
def test_every_name_that_params_may_have_is_a_network(name):
    assert build(model_settings(name=name), (28, 28), 10).output_shape == (None, 10)


def test_more_blocks_than_the_images_can_be_halved_are_refused():
    settings = model_settings(name="cnn", filters=[4] * 5)
    assert build(settings, (28, 28), 10).output_shape == (None, 10)
    with pytest.raises(UserError, match="filters has 5 blocks; images allow 4"):
        build(settings, (28, 15), 10)


HIDDEN = ["Dense", "BatchNormalization", "ReLU", "Dropout"]
BLOCK = ["Conv2D", "BatchNormalization", "ReLU"] * 2
CNN = [*BLOCK, "MaxPooling2D", *BLOCK, "GlobalAveragePooling2D", "Dropout"]


@pytest.mark.parametrize(
    ("changes", "layers", "parameters"),  # weights and biases, counted by hand
    [
        ({"hidden_units": []}, ["Rescaling", "Flatten"], 20 * 3 + 3),  # logistic regression
        ({}, ["Rescaling", "Flatten", "Dense", "Dense"], 20 * 7 + 7 + 7 * 6 + 6 + 6 * 3 + 3),
        # no biases where the normalization has its own; 4 for each of its inputs
        (DEEP, ["Rescaling", "Flatten", *HIDDEN, *HIDDEN], 20 * 7 + 28 + 7 * 6 + 24 + 6 * 3 + 3),
        # 9 weights per pair of channels; the same normalization
        (
            {"name": "cnn", "dropout": 0.25, "filters": [2, 3]},
            ["Rescaling", "Reshape", *CNN],
            9 * (2 + 2 * 2 + 2 * 3 + 3 * 3) + 4 * (2 + 2 + 3 + 3) + 3 * 3 + 3,
        ),
    ],
)
def test_a_network_has_the_layers_of_its_params_and_computes_what_numpy_does(
    path, changes, layers, parameters
):
    model = small(**changes)
    assert model.count_params() == parameters
    assert [type(layer).__name__ for layer in model.layers] == [*layers, "Dense"]
    dropouts = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert set(dropouts) <= {0.25}
    # in float32 the bits of normalization would depend on the CPU: `make portable` shows it
    normalizations = [layer for layer in model.layers if "normalize" in layer.name]
    assert {layer.compute_dtype for layer in normalizations} <= {"float64"}
    save_model(model, path)
    loaded = load_model(path)
    assert (loaded.inputs[0].shape, loaded.inputs[0].dtype) == ((None, 5, 4), "uint8")
    probabilities = loaded(IMAGES).numpy()
    np.testing.assert_array_equal(probabilities, model(IMAGES).numpy())
    expected = probabilities_by_numpy(path.read_bytes(), IMAGES)
    assert np.ptp(expected, axis=0).max() > 0.01  # so that agreement says something
    assert (probabilities.shape, probabilities.dtype) == ((20, 3), np.float32)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-6)


def test_the_first_model_has_as_many_parameters_as_counted_by_hand():
    """Weights and biases, of which the last are those of the 10 classes."""
    counts = [784 * 784 + 784, 784 * 392 + 392, 392 * 196 + 196, 196 * 49 + 49, 49 * 10 + 10]
    model = build(model_settings(hidden_units=[784, 392, 196, 49]), (28, 28), 10)
    assert model.count_params() == sum(counts) == 1_010_341


def test_equal_models_give_equal_bytes_without_optimizer_and_time(path, saved):
    keras.utils.clear_session()  # restarts the numbers in layers' names, as a new process does
    model = small()
    model.compile(keras.optimizers.Adam(0.0), "sparse_categorical_crossentropy")
    model.train_on_batch(IMAGES, np.zeros(20))
    save_model(model, path)
    assert path.read_bytes() == saved and [*path.parent.iterdir()] == [path]
    assert model.optimizer.iterations == 1  # the model keeps it
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "1980-01-01@00:00:00"


def test_a_model_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.txt"  # Keras refuses the suffix
    path.write_text("old")
    with pytest.raises(ValueError, match="model"):
        save_model(small(), path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"model.txt": "old"}


def flipped(content: bytes, at: int) -> bytes:
    """Return the content with one bit flipped."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "text": lambda content: b"not a model",
    "truncated": lambda content: content[:-100],
    "a bit of the weights": lambda content: flipped(content, -2000),
    "a bit of the configuration": lambda content: flipped(content, 1000),
}
# of an entry of the archive; None leaves it out
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
def test_a_corrupted_model_is_reported(path, saved, damage):
    path.write_bytes(DAMAGES.get(damage, bytes)(saved))
    if damage in REWRITES:
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, entry in entries.items():
                if (entry := REWRITES[damage](name, entry)) is not None:
                    archive.writestr(name, entry)
    with pytest.raises(FileError) as error:
        load_model(path)
    assert str(error.value) == f"{path}: not a whole Keras model of this Keras version"


def test_a_missing_model_and_one_with_code_are_refused(path):
    with pytest.raises(FileError, match=r"model\.keras: no such model"):
        load_model(path)
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)]).save(path)
    with pytest.raises(FileError, match="not a whole Keras model"):
        load_model(path)
