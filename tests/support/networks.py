"""Small params for tests, and a second implementation of the networks, in NumPy."""

import io
import json
import zipfile
from collections import Counter

import h5py
import numpy as np
from scipy.signal import correlate

from fashion.core.params import Model, Train


def model_settings(**changes) -> Model:
    """Return the params of a small mlp, with these changes."""
    small = {"name": "mlp", "hidden_units": [7, 6], "filters": [2, 3]}
    return Model(**small | {"batch_normalization": False, "dropout": 0.0} | changes)


def train_settings(**changes) -> Train:
    """Return the params of a short training, with these changes."""
    short = {"epochs": 3, "batch_size": 8, "learning_rate": 0.03, "weight_decay": 0.0}
    return Train(**short | {"learning_rate_schedule": "constant", "augmentation": "none"} | changes)


def probabilities_by_numpy(file: bytes, images: np.ndarray) -> np.ndarray:
    """Compute probabilities from a .keras file's architecture and weights, in float64.

    The formulas are those of the layers' documentation; neither Keras nor TensorFlow is used.
    """
    with (
        zipfile.ZipFile(io.BytesIO(file)) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights,
    ):
        values, seen = images.astype(np.float64), Counter()
        for layer in json.loads(archive.read("config.json"))["config"]["layers"]:
            kind, config = layer["class_name"], layer["config"]
            group = f"{GROUPS.get(kind)}_{seen[kind]}".removesuffix("_0")  # dense, dense_1, ...
            stored = weights.get(f"layers/{group}/vars", {})
            arrays = [np.float64(stored[str(i)]) for i in range(len(stored))]
            values = LAYERS[kind](values, config, *arrays)
            seen[kind] += 1
    return values


def dense(values, config, kernel, bias=0.0):
    sums = values @ kernel + bias
    if config["activation"] == "softmax":
        exponentials = np.exp(sums - sums.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.maximum(sums, 0) if config["activation"] == "relu" else sums


def normalize(values, config, gamma, beta, mean, variance):
    return (values - mean) / np.sqrt(variance + config["epsilon"]) * gamma + beta


def convolve(values, config, kernel):  # (3, 3, channels in, channels out)
    sums = np.zeros((*values.shape[:3], kernel.shape[3]))
    for image, source, target in np.ndindex(len(values), *kernel.shape[2:]):
        channel, weights = values[image, ..., source], kernel[..., source, target]
        sums[image, ..., target] += correlate(channel, weights, "same")
    return sums


def pool(values, config):  # an odd last row or column is left out
    even = values[:, : values.shape[1] // 2 * 2, : values.shape[2] // 2 * 2]
    return np.max([even[:, y::2, x::2] for y in (0, 1) for x in (0, 1)], axis=0)


def unchanged(values, config):
    return values


GROUPS = {"Dense": "dense", "BatchNormalization": "batch_normalization", "Conv2D": "conv2d"}
LAYERS = {
    "InputLayer": unchanged,
    "Rescaling": lambda values, config: values * config["scale"],
    "Flatten": lambda values, config: values.reshape(len(values), -1),
    "Reshape": lambda values, config: values.reshape(len(values), *config["target_shape"]),
    "Dense": dense,
    "BatchNormalization": normalize,
    "Conv2D": convolve,
    "ReLU": lambda values, config: np.maximum(values, 0),
    "MaxPooling2D": pool,
    "GlobalAveragePooling2D": lambda values, config: values.mean(axis=(1, 2)),
    "Dropout": unchanged,
}
