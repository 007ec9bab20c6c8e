import csv

import numpy as np
import pytest

from fashion.model.backend import keras, make_deterministic
from fashion.model.networks import build_cnn, build_mlp
from fashion.model.training import (
    EpochLog,
    build_augmentation,
    build_optimizer,
    fit,
    make_dataset,
    predict,
)

HEADER = "epoch,loss,accuracy,val_loss,val_accuracy\n"
RANDOM = np.random.default_rng(0)
# Random labels: what is learned of them is overfitting, so that the validation loss rises soon.
TRAINING = RANDOM.integers(0, 256, (42, 4, 4), np.uint8), RANDOM.integers(0, 3, 42).astype(np.uint8)
VALIDATION = (
    RANDOM.integers(0, 256, (30, 4, 4), np.uint8),
    RANDOM.integers(0, 3, 30).astype(np.uint8),
)


def train(
    history,
    *,
    data=TRAINING,
    model=None,
    seed=1,
    epochs=6,
    learning_rate=0.03,
    batch_size=8,
    **settings,
):
    """The trained model and the returned row. Initial weights are always the same."""
    make_deterministic(1)
    model = model() if model else build_mlp((4, 4), [16], classes=3)
    kept = fit(
        model, data, VALIDATION, epochs=epochs, batch_size=batch_size,
        learning_rate=learning_rate, seed=seed, history=history, **settings,
    )  # fmt: skip
    return model, kept


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    """A plain run: model, returned row, and the path of its history."""
    history = tmp_path_factory.mktemp("last") / "plots" / "history.csv"
    return *train(history), history


def rows_of(history):
    with history.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def probabilities_by_numpy(model, images):
    """In float64."""
    w1, b1, w2, b2 = (weights.astype(np.float64) for weights in model.get_weights())
    exponentials = np.exp(np.maximum(images.reshape(len(images), -1) / 255 @ w1 + b1, 0) @ w2 + b2)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def loss_and_accuracy(model, images, labels):
    probabilities = probabilities_by_numpy(model, images)
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean(), (
        probabilities.argmax(axis=1) == labels
    ).mean()


def same_weights(model, other):
    return all(
        (a == b).all() for a, b in zip(model.get_weights(), other.get_weights(), strict=True)
    )


def test_history_has_a_header_and_a_row_an_epoch(last):
    _, _, history = last
    assert history.read_bytes().startswith(HEADER.encode())
    assert [row["epoch"] for row in rows_of(history)] == [1, 2, 3, 4, 5, 6]
    assert history.read_bytes().endswith(b"\n")


def test_last_keeps_the_last_epoch(last):
    model, kept, history = last
    assert kept == pytest.approx(rows_of(history)[-1], abs=1e-6)
    assert (kept["val_loss"], kept["val_accuracy"]) == pytest.approx(
        loss_and_accuracy(model, *VALIDATION), abs=2e-6
    )


def test_training_lowers_the_loss(last):
    model, _, history = last
    rows = rows_of(history)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert loss_and_accuracy(model, *TRAINING)[0] < np.log(3)  # that of a guess


def test_the_same_seed_gives_the_same_weights_to_the_bit(last, tmp_path):
    model, kept, history = last
    again, kept_again = train(tmp_path / "history.csv")
    assert same_weights(model, again)
    assert kept == kept_again
    assert history.read_bytes() == (tmp_path / "history.csv").read_bytes()


def test_another_seed_gives_another_order_and_other_weights(last, tmp_path):
    assert not same_weights(last[0], train(tmp_path / "history.csv", seed=2)[0])


SETTINGS = {
    "cosine": {"learning_rate_schedule": "cosine"},
    "weight decay": {"weight_decay": 0.1},
    "flip": {"augmentation": "flip"},
    "flip and shift": {"augmentation": "flip_shift"},
    "dropout": {"model": lambda: build_mlp((4, 4), [16], 3, dropout=0.5)},
    "batch normalization": {"model": lambda: build_mlp((4, 4), [16], 3, batch_normalization=True)},
    "cnn": {"model": lambda: build_cnn((4, 4), [4, 8], 3, dropout=0.5)},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_each_setting_changes_the_weights_repeats_to_the_bit_and_tells_of_its_last_weights(
    last, tmp_path, settings
):
    model, kept = train(tmp_path / "history.csv", **settings)
    again, kept_again = train(tmp_path / "again.csv", **settings)
    assert same_weights(model, again) and kept == kept_again
    assert (tmp_path / "history.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    plain = last[0].get_weights()
    assert any(
        a.shape != b.shape or (a != b).any()
        for a, b in zip(model.get_weights(), plain, strict=False)
    )

    probabilities = model(VALIDATION[0]).numpy().astype(np.float64)
    loss = -np.log(probabilities[np.arange(30), VALIDATION[1]]).mean()
    assert kept["val_loss"] == pytest.approx(loss, abs=1e-5)
    assert kept["val_accuracy"] == pytest.approx(
        (probabilities.argmax(axis=1) == VALIDATION[1]).mean()
    )


def test_the_cosine_schedule_rises_within_a_twentieth_of_the_steps_then_falls_to_zero():
    rate = build_optimizer(0.5, "cosine", 1000, 0.0)._learning_rate
    # Loshchilov and Hutter, SGDR (2017), formula 5, one cycle
    expected = {0: 0.0, 25: 0.25, 50: 0.5, 525: 0.25, 1000: 0.0}
    assert {step: float(rate(step)) for step in expected} == pytest.approx(expected, abs=1e-6)
    a_third_down = 50 + 950 / 3
    assert float(rate(a_third_down)) == pytest.approx(0.5 * 0.75, abs=1e-6)


def test_weight_decay_takes_its_share_times_the_rate_off_weights_not_off_biases_and_normalization():
    model = build_mlp((4, 4), [5], 3, batch_normalization=True)
    values = [np.full_like(weights.numpy(), 2) for weights in model.trainable_variables]
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)
    adam = build_optimizer(0.5, "constant", 1, 0.1)
    adam.build(model.trainable_variables)
    adam.apply(
        [keras.ops.zeros_like(variable) for variable in model.trainable_variables]
    )  # so that Adam itself does nothing
    decayed = {
        variable.path.rsplit("/", 1)[-1]: set(variable.numpy().ravel())
        for variable in model.trainable_variables
    }
    assert decayed["kernel"] == {np.float32(2 - 0.5 * 0.1 * 2)}
    assert decayed["bias"] == decayed["gamma"] == decayed["beta"] == {2.0}


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    return np.pad(image, 1)[
        1 - down : 1 - down + image.shape[0], 1 - right : 1 - right + image.shape[1]
    ]


def variants(augmentation: str, seed: int = 1) -> list[bytes]:
    """What becomes of 500 copies of an image that is unlike its mirror image."""
    image = np.arange(1, 21, dtype=np.uint8).reshape(5, 4)
    images = build_augmentation(augmentation, (5, 4), seed)(
        np.tile(image, (500, 1, 1)), training=True
    )
    assert images.shape == (500, 5, 4)
    return [np.asarray(image, np.float32).tobytes() for image in images]


@pytest.mark.parametrize(("augmentation", "shifts"), [("flip", [0]), ("flip_shift", [-1, 0, 1])])
def test_augmentation_mirrors_and_moves_by_a_pixel_and_does_nothing_else(augmentation, shifts):
    image = np.arange(1, 21, dtype=np.float32).reshape(5, 4)
    moved = [
        shifted(one, down, right)
        for one in (image, image[:, ::-1])
        for down in shifts
        for right in shifts
    ]
    found = variants(augmentation)
    assert set(found) == {one.tobytes() for one in moved}
    assert found == variants(augmentation) != variants(augmentation, seed=2)


def test_fit_takes_every_image_once_an_epoch_in_another_order_each_time(tmp_path):
    taken = []

    class Labels(np.ndarray):
        """Writes down which of them are asked for."""

        def __getitem__(self, chosen):
            taken.extend(chosen)
            return np.asarray(self)[chosen]

    train(tmp_path / "history.csv", data=(TRAINING[0], TRAINING[1].view(Labels)), epochs=3)
    # before the first, Keras takes two batches to see their form
    epochs = np.reshape(taken[-3 * 42 :], (3, 42))
    np.testing.assert_array_equal(np.sort(epochs), [range(42)] * 3)
    assert len({tuple(order) for order in epochs}) == 3


@pytest.mark.parametrize("items", [1, 1000, 2345])
def test_predict_gives_the_probabilities_of_every_image_in_order(last, items):
    images = np.random.default_rng(1).integers(0, 256, (items, 4, 4), np.uint8)
    probabilities = predict(last[0], images)
    assert (probabilities.shape, probabilities.dtype) == ((items, 3), np.float32)
    np.testing.assert_allclose(probabilities, probabilities_by_numpy(last[0], images), rtol=1e-4)


def test_the_log_grows_with_each_epoch_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("of a killed run\n" * 9)
    log = EpochLog(path, epochs=2)
    log.on_train_begin()
    assert path.read_text() == HEADER
    log.on_epoch_end(
        0,
        {
            "loss": 1 / 3,
            "accuracy": 0.5,
            "val_loss": np.float32(0.25),
            "val_accuracy": 1.0,
            "more": 1,
        },
    )
    assert path.read_text() == HEADER + "1,0.333333,0.5,0.25,1.0\n"
    log.on_epoch_end(1, {"loss": 0.25, "accuracy": 0.5, "val_loss": 2.0, "val_accuracy": 0.0})
    assert path.read_text() == HEADER + "1,0.333333,0.5,0.25,1.0\n2,0.25,0.5,2.0,0.0\n"


def orders(batch_size, seed, epochs=2):
    """The order of 23 items in each epoch, as one list, and the sizes of the batches.

    Item i's image is full of i.
    """
    labels = np.arange(23, dtype=np.uint8)
    dataset = make_dataset(
        np.tile(labels[:, None, None], (1, 2, 2)), labels, batch_size=batch_size, seed=seed
    )
    order, sizes = [], []
    for _ in range(epochs):
        for images, chosen in dataset.as_numpy_iterator():
            # each with its label
            np.testing.assert_array_equal(images, np.tile(chosen[:, None, None], (1, 2, 2)))
            order += chosen.tolist()
            sizes.append(len(chosen))
    return order, sizes


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(10, [10, 10, 3]), (23, [23]), (100, [23]), (1, [1] * 23), (11, [11, 11, 1])],
)
def test_batches_are_full_but_the_last(batch_size, sizes):
    assert orders(batch_size, seed=1, epochs=1)[1] == sizes


def test_batches_hold_every_item_once_an_epoch_in_another_order_each_time():
    order, _ = orders(10, seed=1)
    assert sorted(order[:23]) == sorted(order[23:]) == list(range(23))
    assert order[:23] != order[23:]
    assert order[:23] != list(range(23))


def test_without_a_seed_the_order_is_that_of_the_arrays_in_every_epoch():
    assert orders(10, seed=None)[0] == [*range(23), *range(23)]


def test_the_order_of_batches_depends_on_the_seed_alone():
    assert orders(10, seed=1) == orders(10, seed=1)
    assert orders(10, seed=1) != orders(10, seed=2)
    assert orders(10, seed=1)[0] == orders(7, seed=1)[0]


class Watched(np.memmap):
    """A memory-mapped array that notes how many items are asked of it at a time."""

    def __getitem__(self, chosen):
        Watched.asked.append(len(chosen))
        return super().__getitem__(chosen)


def test_memory_mapped_images_are_read_a_batch_at_a_time(tmp_path):
    (tmp_path / "images").write_bytes(TRAINING[0].tobytes())
    Watched.asked = []
    images = Watched(tmp_path / "images", np.uint8, "r", shape=TRAINING[0].shape)
    together = list(make_dataset(images, TRAINING[1], batch_size=8, seed=1).as_numpy_iterator())
    assert Watched.asked == [8, 8, 8, 8, 8, 2]
    for (mapped, _), (whole, _) in zip(
        together, make_dataset(*TRAINING, batch_size=8, seed=1).as_numpy_iterator(), strict=True
    ):
        np.testing.assert_array_equal(mapped, whole)
