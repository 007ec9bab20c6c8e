"""Train a network, and predict with it: the loop, its batches and its optimizer."""

import math

import numpy as np

from fashion.core.errors import UserError
from fashion.core.params import Train
from fashion.model.backend import keras, tf
from fashion.model.epoch_line import COLUMNS, format_epoch
from fashion.model.optimizers import FusedAdam

STEPS_PER_EXECUTION = 64  # batches per call of TensorFlow; does not change the weights
SCORING_BATCH_SIZE = 1000  # images at a time in validation and prediction; bounds memory


def make_dataset(*arrays: np.ndarray, batch_size: int, seed: int | None = None) -> tf.data.Dataset:
    """Return a data set of tuples with `batch_size` items of each array.

    Items are read when they are needed, so memory-mapped arrays need not fit into memory. With a
    `seed`, each pass over the data has another random order; without, all have that of the arrays.
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

    # from_generator would return memory to the system at every step, which takes a tenth of the
    # time; with autotuning, the end of an epoch may wait seconds for the tuner's thread
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = tf.data.Dataset.range(-(-len(order) // batch_size))
    return batches.map(with_shapes).prefetch(2).with_options(options)


def fit(
    model: keras.Model,
    training_data: tuple[np.ndarray, np.ndarray],
    validation_data: tuple[np.ndarray, np.ndarray],
    settings: Train,
    *,
    seed: int,
) -> list[dict[str, float]]:
    """Fit `model` in place with Adam on sparse categorical cross-entropy.

    Data are pairs of images, (items, height, width) uint8, and labels, (items,) integers. `seed`
    sets the order of the images and the augmentation. Prints a line after each epoch. Returns the
    history, a row of COLUMNS for each epoch: the epoch, counted from 1, losses in nats, accuracies
    in [0, 1]. Training loss and accuracy are Keras' running means over the epoch, taken while the
    weights still move. Raises UserError when the loss stops being a number.
    """
    steps = settings.epochs * -(-len(training_data[0]) // settings.batch_size)
    model.compile(
        optimizer=build_optimizer(settings, steps),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=False,
    )
    # if the first step created variables, TensorFlow would build its graph twice
    model.optimizer.build(model.trainable_variables)
    batches = make_dataset(*training_data, batch_size=settings.batch_size, seed=seed)
    log = EpochLog(settings.epochs)
    model.fit(
        augmented(batches, settings.augmentation, seed),
        shuffle=False,  # make_dataset shuffles
        validation_data=make_dataset(*validation_data, batch_size=SCORING_BATCH_SIZE),
        epochs=settings.epochs,
        callbacks=[log],
        verbose=0,
    )
    return log.rows


def build_optimizer(settings: Train, steps: int) -> keras.optimizers.Optimizer:
    """Return Adam with the learning rate's schedule and weight decay, for `steps` batches.

    The "cosine" schedule rises from 0 in the first twentieth of the steps, then falls to 0 along
    half a cosine wave. Each step shrinks the weights by the share `weight_decay` times the rate,
    but not biases and parameters of normalization (Loshchilov and Hutter, AdamW, 2019).
    """
    rate = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        warm_up = steps // 20
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm_up), warmup_target=rate, warmup_steps=warm_up
        )
    adam = FusedAdam(rate, weight_decay=settings.weight_decay or None)
    adam.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return adam


def augmented(batches: tf.data.Dataset, augmentation: str, seed: int) -> tf.data.Dataset:
    """Return batches of images and labels in which each image is mirrored with probability 1/2.

    "flip_shift" also moves images by at most a pixel in each direction; 0 moves in at the edge.
    Augmented images are float32, 0 to 255. "none" returns the batches as they are.
    """
    if augmentation == "none":
        return batches
    image_shape = tuple(batches.element_spec[0].shape[1:])  # height, width
    layers = [
        keras.layers.Reshape((*image_shape, 1)),
        keras.layers.RandomFlip("horizontal", seed=seed),
    ]
    if augmentation == "flip_shift":
        exact = {"fill_mode": "constant", "interpolation": "nearest", "seed": (seed + 1) % 2**32}
        one_pixel = [1 / size for size in image_shape]
        layers.append(keras.layers.RandomTranslation(*one_pixel, **exact))
    layers = [keras.Input(image_shape), *layers, keras.layers.Reshape(image_shape)]
    augment = keras.Sequential(layers)
    return batches.map(lambda images, labels: (augment(images, training=True), labels)).prefetch(2)


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return probabilities (items, classes), float32, of uint8 images (items, height, width)."""
    starts = range(0, len(images), SCORING_BATCH_SIZE)
    pieces = [images[start : start + SCORING_BATCH_SIZE] for start in starts]
    return np.concatenate([model.predict_on_batch(piece) for piece in pieces])


class EpochLog(keras.callbacks.Callback):
    """A Keras callback that keeps and prints the values of each epoch, or stops if they diverge."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs, self.rows = epochs, []

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1} | {name: float(logs[name]) for name in COLUMNS[1:]}
        if not all(map(math.isfinite, row.values())):
            raise UserError(
                f"training diverged: the loss is not a number in epoch {epoch + 1}."
                " Lower train.learning_rate"
            )
        self.rows.append(row)
        print(format_epoch(row, self.epochs), flush=True)
