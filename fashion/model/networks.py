"""The network, and a model file whose bytes depend on nothing but the model."""

import json
import zipfile
from pathlib import Path

from fashion.core.errors import UserError
from fashion.core.files import atomic_write
from fashion.model.backend import keras

# In float32 it would take the reciprocal square root from an instruction (rsqrtps) of which Intel
# and AMD have each their own approximation; for float64 there is none, so all CPUs compute the
# same.
NORMALIZATION_DTYPE = "float64"
# of the moving mean and variance; Keras' 0.99 lags behind in trainings of a few hundred steps an
# epoch
BN_MOMENTUM = 0.9
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can carry


def build_mlp(
    image_shape: tuple[int, int],
    hidden_units: list[int],
    classes: int,
    *,
    batch_normalization: bool = False,
    dropout: float = 0.0,
) -> keras.Sequential:
    """Build a fully connected network.

    It takes uint8 images (batch, height, width) and returns probabilities (batch, classes),
    float32. `batch_normalization` comes before each ReLU; `dropout` is the share of each hidden
    layer's outputs that training leaves out. Pixels are scaled from 0..255 to [0, 1] inside, so
    that nobody who uses the saved model can forget to. Layers have names of their own, since Keras'
    automatic ones depend on what else was built before.
    """
    layers = [keras.layers.Rescaling(1 / 255, name="scale"), keras.layers.Flatten(name="flatten")]
    for i, units in enumerate(hidden_units, 1):
        if batch_normalization:
            layers += [
                keras.layers.Dense(units, use_bias=False, name=f"hidden_{i}"),
                _normalization(f"normalize_{i}"),
                keras.layers.ReLU(name=f"relu_{i}"),
            ]
        else:
            layers.append(keras.layers.Dense(units, activation="relu", name=f"hidden_{i}"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout, name=f"dropout_{i}"))
    return _classifier("mlp", image_shape, layers, classes)


def build_cnn(
    image_shape: tuple[int, int], filters: list[int], classes: int, *, dropout: float = 0.0
) -> keras.Sequential:
    """A convolutional network, with the same input and output as `build_mlp`.

    Each of `filters` is a block: two 3x3 convolutions of so many channels with batch normalization
    and ReLU, then, except after the last block, 2x2 max pooling. The mean over the image of each
    channel of the last block, with `dropout`, goes into the classifier.
    """
    layers = [
        keras.layers.Rescaling(1 / 255, name="scale"),
        keras.layers.Reshape((*image_shape, 1), name="channel"),
    ]
    for i, channels in enumerate(filters, 1):
        for half in "ab":
            layers += [
                keras.layers.Conv2D(
                    channels, 3, padding="same", use_bias=False, name=f"convolve_{i}{half}"
                ),
                _normalization(f"normalize_{i}{half}"),
                keras.layers.ReLU(name=f"relu_{i}{half}"),
            ]
        if i < len(filters):
            layers.append(keras.layers.MaxPooling2D(name=f"pool_{i}"))
    layers.append(keras.layers.GlobalAveragePooling2D(name="mean"))
    if dropout:
        layers.append(keras.layers.Dropout(dropout, name="dropout"))
    return _classifier("cnn", image_shape, layers, classes)


def _normalization(name: str) -> keras.layers.BatchNormalization:
    return keras.layers.BatchNormalization(
        momentum=BN_MOMENTUM, dtype=NORMALIZATION_DTYPE, name=name
    )


def _classifier(
    name: str, image_shape: tuple[int, int], layers: list, classes: int
) -> keras.Sequential:
    pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    probabilities = keras.layers.Dense(classes, activation="softmax", name="probabilities")
    return keras.Sequential([pixels, *layers, probabilities], name=name)


def save_model(model: keras.Model, path: Path) -> None:
    """Save architecture and weights in Keras' own format, without the optimizer's state.

    Equal models give equal bytes: Keras writes the time into the metadata and into every zip entry;
    here both are fixed.
    """
    bare = type(model).from_config(model.get_config())  # not compiled, hence without optimizer
    bare.set_weights(model.get_weights())
    with atomic_write(path) as tmp_path:
        saved = tmp_path.with_name(f"saved-{tmp_path.name}")
        try:
            bare.save(saved)
            with zipfile.ZipFile(saved) as source, zipfile.ZipFile(tmp_path, "w") as target:
                for name in sorted(source.namelist()):
                    target.writestr(
                        zipfile.ZipInfo(name, ZIP_EPOCH), _without_date(name, source.read(name))
                    )
        finally:
            saved.unlink(missing_ok=True)


def load_model(path: Path) -> keras.Model:
    """Load a model that `save_model` wrote.

    Keras' safe mode is on: a model file can't bring code along.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such model. `dvc repro` trains it,"
            " `dvc checkout` restores one trained before"
        )
    try:
        return keras.models.load_model(path, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile):
        raise UserError(
            f"{path}: not a whole Keras model of this Keras version. `dvc repro` trains it again"
        ) from None


def _without_date(name: str, content: bytes) -> bytes:
    if name != "metadata.json":
        return content
    metadata = json.loads(content)
    metadata["date_saved"] = "1980-01-01@00:00:00"
    return json.dumps(metadata).encode()
