"""Build the networks, and save a model as a file whose bytes depend only on the model.

A new network is a function here, which returns its layers, and its name in `Model` in
fashion/core/params.py.
"""

import json
import zipfile
from pathlib import Path

from fashion.core.errors import FileError, UserError
from fashion.core.files import atomic_write
from fashion.core.params import Model
from fashion.model.backend import keras

# In float32 the reciprocal square root is an instruction (rsqrtps) that Intel and AMD approximate
# differently. Float64 has no such instruction, so all CPUs compute the same. Keras' default
# momentum, 0.99, lags behind in epochs of a few hundred steps.
NORMALIZATION = {"dtype": "float64", "momentum": 0.9}
THREADS = {"cnn": 2}  # per operation, by network; bits of a convolution depend on the number
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can carry


def build(settings: Model, image_shape: tuple[int, int], classes: int) -> keras.Sequential:
    """Build the network that the `model` params describe.

    It takes uint8 images (batch, height, width) and returns probabilities (batch, classes),
    float32. It scales pixels from 0..255 to [0, 1] itself, so users of the saved model can't forget
    to. Layers have fixed names, since Keras' automatic names depend on what was built before.
    """
    pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    layers = globals()[settings.name](settings, image_shape)  # params.py allows no other names
    probabilities = keras.layers.Dense(classes, activation="softmax", name="probabilities")
    return keras.Sequential([pixels, *layers, probabilities], name=settings.name)


def mlp(settings: Model, _: tuple[int, int]) -> list[keras.Layer]:
    """Return the layers of a fully connected network, from pixels to the last hidden layer."""
    layers = [keras.layers.Rescaling(1 / 255, name="scale"), keras.layers.Flatten(name="flatten")]
    for i, units in enumerate(settings.hidden_units, 1):
        if settings.batch_normalization:
            layers += [
                keras.layers.Dense(units, use_bias=False, name=f"hidden_{i}"),
                keras.layers.BatchNormalization(name=f"normalize_{i}", **NORMALIZATION),
                keras.layers.ReLU(name=f"relu_{i}"),
            ]
        else:
            layers.append(keras.layers.Dense(units, activation="relu", name=f"hidden_{i}"))
        if settings.dropout:
            layers.append(keras.layers.Dropout(settings.dropout, name=f"dropout_{i}"))
    return layers


def cnn(settings: Model, image_shape: tuple[int, int]) -> list[keras.Layer]:
    """Return the layers of a convolutional network, from pixels to the features of an image.

    Each number of `filters` is a block: two 3x3 convolutions with that number of channels, each
    with batch normalization and ReLU, then 2x2 max pooling, except after the last block. The
    features are the mean of each channel of the last block over the image, with `dropout`. Raises
    UserError if there are more blocks than the images can be halved.
    """
    most = min(image_shape).bit_length()  # blocks, until halving leaves no pixel
    if len(settings.filters) > most:
        raise UserError(f"model.filters has {len(settings.filters)} blocks; images allow {most}")
    layers = [
        keras.layers.Rescaling(1 / 255, name="scale"),
        keras.layers.Reshape((*image_shape, 1), name="channel"),
    ]
    for i, channels in enumerate(settings.filters, 1):
        for half in "ab":
            name = f"convolve_{i}{half}"
            layers += [
                keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, name=name),
                keras.layers.BatchNormalization(name=f"normalize_{i}{half}", **NORMALIZATION),
                keras.layers.ReLU(name=f"relu_{i}{half}"),
            ]
        if i < len(settings.filters):
            layers.append(keras.layers.MaxPooling2D(name=f"pool_{i}"))
    layers.append(keras.layers.GlobalAveragePooling2D(name="mean"))
    if settings.dropout:
        layers.append(keras.layers.Dropout(settings.dropout, name="dropout"))
    return layers


def save_model(model: keras.Model, path: Path) -> None:
    """Save architecture and weights in Keras' own format, without the optimizer's state.

    Equal models give equal bytes. Keras writes the time into the metadata and into every zip entry;
    both are replaced by a fixed time.
    """
    bare = type(model).from_config(model.get_config())  # not compiled, so without optimizer
    bare.set_weights(model.get_weights())
    with atomic_write(path) as tmp_path:
        saved = tmp_path.with_name(f"saved-{tmp_path.name}")
        try:
            bare.save(saved)
            with zipfile.ZipFile(saved) as source, zipfile.ZipFile(tmp_path, "w") as target:
                for name in sorted(source.namelist()):
                    content = source.read(name)
                    if name == "metadata.json":
                        metadata = json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}
                        content = json.dumps(metadata).encode()
                    target.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), content)
        finally:
            saved.unlink(missing_ok=True)


def load_model(path: Path) -> keras.Model:
    """Load a model that `save_model` wrote.

    Keras' safe mode is on, so a model file can't run code. Raises FileError if it is missing or
    corrupted.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such model")
    try:
        return keras.models.load_model(path, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile):
        raise FileError(f"{path}: not a whole Keras model of this Keras version") from None
