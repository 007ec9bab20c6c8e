import io
import json
import time
import zipfile

import h5py
import numpy as np
import pytest
from scipy.signal import correlate

from fashion.core.errors import UserError
from fashion.model.backend import keras, make_deterministic
from fashion.model.networks import build_cnn, build_mlp, load_model, save_model

# From black to as bright as can be, so that the predictions differ much.
IMAGES = (
    np.random.default_rng(0).integers(0, 256, (20, 5, 4)) * np.linspace(0, 1, 20)[:, None, None]
).astype(np.uint8)


def small_mlp() -> keras.Sequential:
    """Weights and biases all different from zero, so that none can be forgotten unnoticed."""
    make_deterministic(1)
    model = build_mlp((5, 4), [7, 6], classes=3)
    random = np.random.default_rng(1)
    model.set_weights([random.normal(0, 0.5, weights.shape) for weights in model.get_weights()])
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    save_model(small_mlp(), path)
    return path.read_bytes()


@pytest.fixture
def saved(path, saved_bytes):
    path.write_bytes(saved_bytes)
    return path


def probabilities_of(model) -> np.ndarray:
    return model(IMAGES).numpy()


def weights_in(path) -> h5py.File:
    with zipfile.ZipFile(path) as archive:
        return h5py.File(io.BytesIO(archive.read("model.weights.h5")))


def test_layers_of_the_network_of_the_pipeline():
    model = build_mlp((28, 28), [784, 392, 196, 49], classes=10)
    layers = [type(layer).__name__ for layer in model.layers]
    assert layers == ["Rescaling", "Flatten", *["Dense"] * 5]
    dense = model.layers[2:]
    assert [layer.units for layer in dense] == [784, 392, 196, 49, 10]
    assert [layer.activation.__name__ for layer in dense] == [*["relu"] * 4, "softmax"]
    # weights and biases: 784 x 784 + 784 = 615,440; 784 x 392 + 392 = 307,720; 392 x 196 + 196 =
    # 77,028; 196 x 49 + 49 = 9,653; 49 x 10 + 10 = 500
    assert model.count_params() == 1_010_341


def test_without_hidden_layers_it_is_logistic_regression():
    model = build_mlp((28, 28), [], classes=10)
    assert model.count_params() == 784 * 10 + 10


@pytest.mark.parametrize(
    "model", [build_mlp((5, 4), [7], 3, batch_normalization=True), build_cnn((5, 4), [2], 3)]
)
def test_normalization_is_computed_in_float64_by_keras_own_layers(model, tmp_path):
    """In float32 its bits would depend on the CPU: `make portable` shows it."""
    save_model(model, tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert {layer["module"] for layer in layers} == {"keras.layers"}
    kinds = {layer["class_name"]: str(layer["config"]["dtype"]) for layer in layers}
    assert "float64" in kinds["BatchNormalization"] and "float32" in kinds["Dense"]
    assert model.outputs[0].dtype == "float32"


def test_dropout_and_batch_normalization_stand_behind_each_hidden_layer():
    model = build_mlp((5, 4), [7, 6], 3, batch_normalization=True, dropout=0.25)
    hidden = ["Dense", "BatchNormalization", "ReLU", "Dropout"]
    layers = [type(layer).__name__ for layer in model.layers]
    assert layers == ["Rescaling", "Flatten", *hidden, *hidden, "Dense"]
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {
        0.25
    }
    # no biases where the normalization has its own; 20 x 7 + 7 x 6 weights, 4 x 7 + 4 x 6, and 6 x
    # 3 + 3
    assert model.count_params() == 20 * 7 + 7 * 6 + 28 + 24 + 21


def with_random_weights(model: keras.Sequential) -> keras.Sequential:
    random = np.random.default_rng(1)
    model.set_weights(
        [
            random.uniform(0.1, 0.9, weights.shape) * random.choice([-1, 1])
            for weights in model.get_weights()
        ]
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(np.abs(layer.moving_variance.numpy()))
    return model


def normalized(values: np.ndarray, layer: keras.layers.BatchNormalization) -> np.ndarray:
    gamma, beta, mean, variance = layer.get_weights()
    return (values - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_the_normalized_mlp_computes_what_numpy_does():
    model = with_random_weights(build_mlp((5, 4), [7], 3, batch_normalization=True, dropout=0.5))
    dense, last = model.get_layer("hidden_1"), model.get_layer("probabilities")
    hidden = IMAGES.reshape(20, 20) / 255 @ dense.get_weights()[0]
    hidden = np.maximum(normalized(hidden, model.get_layer("normalize_1")), 0)
    weights, biases = last.get_weights()
    np.testing.assert_allclose(
        probabilities_of(model), softmax(hidden @ weights + biases), rtol=1e-3, atol=1e-6
    )


def test_the_cnn_computes_what_scipy_does():
    model = with_random_weights(build_cnn((5, 4), [2, 3], 3, dropout=0.5))
    values = IMAGES[..., None] / 255
    for block in (1, 2):
        for half in "ab":
            # its shape is (3, 3, channels in, channels out)
            kernel = model.get_layer(f"convolve_{block}{half}").get_weights()[0]
            sums = np.zeros((*values.shape[:3], kernel.shape[3]))
            for image, source, target in np.ndindex(len(values), *kernel.shape[2:]):
                sums[image, ..., target] += correlate(
                    values[image, ..., source], kernel[..., source, target], "same"
                )
            values = np.maximum(normalized(sums, model.get_layer(f"normalize_{block}{half}")), 0)
        if block == 1:  # pooled; the fifth row has no partner, and is left out
            values = np.max([values[:, y:4:2, x::2] for y in (0, 1) for x in (0, 1)], axis=0)
    weights, biases = model.get_layer("probabilities").get_weights()
    expected = softmax(values.mean(axis=(1, 2)) @ weights + biases)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(probabilities_of(model), expected, rtol=1e-3, atol=1e-6)


def test_the_cnn_of_the_pipeline_has_less_than_100_000_parameters():
    # 9 weights a pair of channels: 1-16-16, 16-32-32, 32-64-64; 4 a channel of each normalization;
    # 64 x 10 + 10
    expected = (
        9 * (16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 4 * 2 * (16 + 32 + 64) + 650
    )
    assert build_cnn((28, 28), [16, 32, 64], 10).count_params() == expected == 73_114


def test_takes_uint8_images_and_gives_float32_probabilities():
    model = small_mlp()
    assert (model.inputs[0].shape, model.inputs[0].dtype) == ((None, 5, 4), "uint8")
    probabilities = probabilities_of(model)
    assert (probabilities.shape, probabilities.dtype) == ((20, 3), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_loaded_model_predicts_the_same_to_the_bit(saved):
    np.testing.assert_array_equal(
        probabilities_of(load_model(saved)), probabilities_of(small_mlp())
    )


def test_loaded_model_computes_what_numpy_computes_from_the_weights_in_the_file(saved):
    with weights_in(saved) as file:
        layers = [file[f"layers/{name}/vars"] for name in ("dense", "dense_1", "dense_2")]
        (w1, b1), (w2, b2), (w3, b3) = ((layer["0"][:], layer["1"][:]) for layer in layers)
    hidden = np.maximum(IMAGES.reshape(20, 20) / 255 @ w1 + b1, 0)
    hidden = np.maximum(hidden @ w2 + b2, 0)
    exponentials = np.exp(hidden @ w3 + b3)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    assert np.ptp(expected, axis=0).min() > 0.1  # so that agreement says something
    np.testing.assert_allclose(probabilities_of(load_model(saved)), expected, rtol=1e-4)


def test_saving_again_later_gives_equal_bytes_and_nothing_else(tmp_path):
    model = small_mlp()
    save_model(model, tmp_path / "models" / "a.keras")
    time.sleep(2.1)  # the zip format keeps times in steps of two seconds
    save_model(model, tmp_path / "models" / "b.keras")
    assert (tmp_path / "models" / "a.keras").read_bytes() == (
        tmp_path / "models" / "b.keras"
    ).read_bytes()
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["a.keras", "b.keras"]


def test_equal_models_of_two_sessions_give_equal_bytes(tmp_path):
    for name in ("a.keras", "b.keras"):
        # starts the numbers in layers' names anew, as a new process does
        keras.utils.clear_session()
        save_model(small_mlp(), tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_equal_models_of_one_session_give_equal_bytes(tmp_path):
    for name in ("a.keras", "b.keras"):
        save_model(small_mlp(), tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_other_weights_give_other_bytes(saved, tmp_path):
    model = small_mlp()
    weights = model.get_weights()
    weights[0][0, 0] = np.nextafter(weights[0][0, 0], np.float32(9))
    model.set_weights(weights)
    save_model(model, tmp_path / "other.keras")
    with weights_in(saved) as file, weights_in(tmp_path / "other.keras") as other:
        name = "layers/dense/vars/0"
        assert (file[name][:] != other[name][:]).sum() == 1


def test_the_optimizer_is_not_saved(path, tmp_path):
    model = small_mlp()
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    model.train_on_batch(IMAGES, np.zeros(20))
    model.save(tmp_path / "by-keras.keras")
    save_model(model, path)
    with weights_in(path) as file, weights_in(tmp_path / "by-keras.keras") as by_keras:
        assert "optimizer" in by_keras  # what this test looks for is there to be found
        assert "optimizer" not in file
    assert not load_model(path).compiled


def test_a_trained_model_keeps_its_weights_and_its_optimizer(path):
    model = small_mlp()
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    model.train_on_batch(IMAGES, np.zeros(20))
    save_model(model, path)
    assert model.optimizer.iterations == 1
    np.testing.assert_array_equal(probabilities_of(load_model(path)), probabilities_of(model))


def test_a_model_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.txt"  # Keras refuses the suffix
    path.write_text("old")
    with pytest.raises(ValueError, match="model"):
        save_model(small_mlp(), path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.txt"]


def test_a_missing_model_is_told(path):
    with pytest.raises(UserError, match=r"no such model.*dvc repro") as error:
        load_model(path)
    assert str(path) in str(error.value)


def rewrite(path, change) -> None:
    """Write the archive anew, whole as such, with `change(name, content)` in each entry.

    None leaves an entry out.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            if content is not None:
                archive.writestr(name, content)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a model"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a bit of the weights": lambda path: path.write_bytes(flipped(path.read_bytes(), -2000)),
    "a bit of the configuration": lambda path: path.write_bytes(flipped(path.read_bytes(), 1000)),
    "weights missing": lambda path: rewrite(
        path, lambda name, content: None if name.endswith("h5") else content
    ),
    "configuration missing": lambda path: rewrite(
        path, lambda name, content: None if name == "config.json" else content
    ),
    "weights halved": lambda path: rewrite(
        path, lambda name, content: content[:9000] if name.endswith("h5") else content
    ),
    "weights of another shape": lambda path: rewrite(
        path, lambda _, content: content.replace(b'"units": 7', b'"units": 8')
    ),
    "a layer that is not known": lambda path: rewrite(
        path, lambda _, content: content.replace(b'"Dense"', b'"Denser"')
    ),
}


def flipped(content: bytes, at: int) -> bytes:
    damaged = bytearray(content)
    damaged[at] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_model_is_told(saved, damage):
    damage(saved)
    with pytest.raises(UserError, match=r"not a whole Keras model.*dvc repro") as error:
        load_model(saved)
    assert str(error.value).startswith(f"{saved}: ")
    assert "\n" not in str(error.value)


def test_a_layer_with_an_argument_that_is_not_known_is_told(saved):
    """As in a model that a later version of Keras wrote."""
    rewrite(
        saved,
        lambda _, content: content.replace(b'"units": 7', b'"units": 7, "new_in_keras_9": true'),
    )
    with pytest.raises(UserError):
        load_model(saved)


def test_a_model_that_brings_code_along_is_refused(path):
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)]).save(path)
    with pytest.raises(UserError, match="not a whole Keras model"):
        load_model(path)
