"""Training: the loop, and a log that grows as it runs."""

import csv
import math
import sys
from pathlib import Path

import numpy as np

from fashion.core.errors import UserError
from fashion.core.files import with_filename
from fashion.model.backend import keras, tf
from fashion.model.epoch_line import COLUMNS, format_epoch
from fashion.model.optimizers import FusedAdam

# batches that TensorFlow takes at once; saves time in Python, does not change the weights
STEPS_PER_EXECUTION = 64
SCORING_BATCH_SIZE = 1000  # images at a time where nothing is learned from them; bounds memory


def make_dataset(*arrays: np.ndarray, batch_size: int, seed: int | None = None) -> tf.data.Dataset:
    """Return tuples of `batch_size` items of each array, read as they are needed.

    Memory-mapped arrays never stand in memory whole. With a `seed` the order is a new one each time
    through, else that of the arrays.
    """
    random = None if seed is None else np.random.default_rng(seed)
    order = np.arange(len(arrays[0]))

    def read(batch: int) -> list[np.ndarray]:
        if random and batch == 0:
            random.shuffle(order)
        chosen = order[batch * batch_size : (batch + 1) * batch_size]
        return [array[chosen] for array in arrays]

    def with_shapes(batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values = tf.numpy_function(read, [batch], [array.dtype for array in arrays])
        return tuple(
            tf.ensure_shape(value, (None, *array.shape[1:]))
            for value, array in zip(values, arrays, strict=True)
        )

    # Not from_generator, which has TensorFlow hand memory back to the system at every step: a tenth
    # of the time. Not tuned as it runs, since the end of an epoch then may wait for the tuner's
    # thread, for seconds.
    options = tf.data.Options()
    options.autotune.enabled = False
    return (
        tf.data.Dataset.range(-(-len(order) // batch_size))
        .map(with_shapes)
        .prefetch(2)
        .with_options(options)
    )


def fit(
    model: keras.Model,
    training_data: tuple[np.ndarray, np.ndarray],
    validation_data: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    history: Path,
    learning_rate_schedule: str = "constant",
    weight_decay: float = 0.0,
    augmentation: str = "none",
) -> dict[str, float]:
    """Fit `model` in place with Adam on sparse categorical cross-entropy.

    Data are pairs of images, (items, height, width) uint8, and labels, (items,) integers. `seed`
    sets the order of the batches. A row of COLUMNS is appended to the CSV file `history` as each
    epoch ends. Further settings, all off by default: `learning_rate_schedule` "cosine" and
    `weight_decay` as `build_optimizer` has them, `augmentation` "flip" or "flip_shift" as
    `build_augmentation`.

    Returns the last epoch's row: the epoch, counted from 1, losses in nats, accuracies in [0, 1].
    Training loss and accuracy are Keras' running means over the epoch, taken while the weights
    still move. Raises UserError when the loss stops being a number.
    """
    steps = epochs * -(-len(training_data[0]) // batch_size)
    model.compile(
        optimizer=build_optimizer(learning_rate, learning_rate_schedule, steps, weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=False,
    )
    training = make_dataset(*training_data, batch_size=batch_size, seed=seed)
    if augmentation != "none":
        augment = build_augmentation(augmentation, training_data[0].shape[1:], seed)
        training = training.map(
            lambda images, labels: (augment(images, training=True), labels)
        ).prefetch(2)
    log = EpochLog(history, epochs)
    model.fit(
        training,
        shuffle=False,  # make_dataset shuffles
        validation_data=make_dataset(*validation_data, batch_size=SCORING_BATCH_SIZE),
        epochs=epochs,
        callbacks=[log, CappedProgressBar()] if sys.stdout.isatty() else [log],
        verbose=1 if sys.stdout.isatty() else 0,
    )
    return log.rows[-1]


def build_optimizer(
    learning_rate: float, schedule: str, steps: int, weight_decay: float
) -> keras.optimizers.Optimizer:
    """Return Adam, with weight decay decoupled from the gradient where that is not 0.

    The source is Loshchilov and Hutter, AdamW, 2019. A step takes the share `weight_decay` times
    the rate off each weight, but off no bias and no parameter of normalization. The rate is
    "constant" or, with "cosine", rises from 0 in the first twentieth of `steps` and then falls to 0
    by half a cosine wave.
    """
    rate = learning_rate
    if schedule == "cosine":
        warm_up = steps // 20
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
        )
    adam = FusedAdam(rate, weight_decay=weight_decay or None)
    if weight_decay:
        adam.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return adam


def build_augmentation(
    augmentation: str, image_shape: tuple[int, int], seed: int
) -> keras.Sequential:
    """Return layers that mirror every second image at random.

    With "flip_shift" they also move it by up to a pixel each way. Images are (batch, height,
    width), 0 to 255, and come back as float32; 0 moves in at the edge.
    """
    height, width = image_shape
    layers = [
        keras.layers.Reshape((height, width, 1)),
        keras.layers.RandomFlip("horizontal", seed=seed),
    ]
    if augmentation == "flip_shift":
        whole_pixels = {"fill_mode": "constant", "interpolation": "nearest"}
        other = (seed + 1) % 2**32  # of the same seed, a mirrored image would only move up
        layers.append(
            keras.layers.RandomTranslation(1 / height, 1 / width, seed=other, **whole_pixels)
        )
    return keras.Sequential([keras.Input(image_shape), *layers, keras.layers.Reshape(image_shape)])


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities (items, classes), float32, of uint8 images (items, height, width)."""
    return model.predict(make_dataset(images, batch_size=SCORING_BATCH_SIZE), verbose=0)


class CappedProgressBar(keras.callbacks.ProgbarLogger):
    """Keras' progress bar, which counts whole executions: 448 steps of 422 at an epoch's end."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(min(batch, self.target - 1), logs)


class EpochLog(keras.callbacks.Callback):
    """Appends each epoch's values to a CSV file, and prints them where no progress bar does."""

    def __init__(self, path: Path, epochs: int):
        super().__init__()
        self.path, self.epochs, self.rows = path, epochs, []

    def on_train_begin(self, logs=None):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(COLUMNS)

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1} | {name: float(logs[name]) for name in COLUMNS[1:]}
        if not all(map(math.isfinite, row.values())):
            raise UserError(
                f"training diverged: the loss is not a number in epoch {epoch + 1}."
                " Lower train.learning_rate"
            )
        self.rows.append(row)
        with with_filename(self.path), self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writerow({name: round(value, 6) for name, value in row.items()})
        if not sys.stdout.isatty():
            print(format_epoch(row, self.epochs), flush=True)
