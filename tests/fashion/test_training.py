import math

import numpy as np
import pytest

from fashion.core.errors import UserError
from fashion.model.backend import keras, make_deterministic
from fashion.model.epoch_line import COLUMNS, format_epoch
from fashion.model.networks import build
from fashion.model.training import (
    EpochLog,
    augmented,
    build_optimizer,
    fit,
    make_dataset,
    predict,
)
from tests.support.networks import model_settings, train_settings

RANDOM = np.random.default_rng(0)
# Random labels: what is learned of them is overfitting, so that the validation loss rises soon.
TRAINING = RANDOM.integers(0, 256, (42, 4, 4), np.uint8), RANDOM.integers(0, 3, 42).astype(np.uint8)
VALIDATION = (
    RANDOM.integers(0, 256, (30, 4, 4), np.uint8),
    RANDOM.integers(0, 3, 30).astype(np.uint8),
)
EVERYTHING = {
    "learning_rate_schedule": "cosine",
    "weight_decay": 0.1,
    "augmentation": "flip_shift",
}


def train(data=TRAINING, seed=1, network=None, **settings):
    """Return the trained model and its history. Initial weights are always the same."""
    make_deterministic(1)
    model = build(model_settings(**network or {}), (4, 4), classes=3)
    return model, fit(model, data, VALIDATION, train_settings(**settings), seed=seed)


@pytest.fixture(scope="module")
def plain():
    return train(epochs=6)


def same_weights(model, other) -> bool:
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return all((ours == theirs).all() for ours, theirs in pairs)


def test_history_is_a_row_an_epoch_and_ends_with_the_scores_of_the_last_weights(plain):
    model, history = plain
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert all(list(row) == COLUMNS for row in history)
    assert history[-1]["loss"] < history[0]["loss"]
    images, labels = VALIDATION
    probabilities = model(images).numpy().astype(np.float64)
    loss = -np.log(probabilities[np.arange(30), labels]).mean()
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    last = history[-1]
    assert (last["val_loss"], last["val_accuracy"]) == pytest.approx((loss, accuracy), abs=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_same_seed_gives_the_same_bits_with_everything_on(name):
    network = {"name": name, "batch_normalization": True, "dropout": 0.5}
    runs = [train(network=network, **EVERYTHING) for _ in range(2)]
    assert same_weights(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]


def test_another_seed_gives_another_order_and_other_weights(plain):
    assert not same_weights(plain[0], train(epochs=6, seed=2)[0])


def test_another_seed_mirrors_and_moves_other_images():
    """All images are alike, so their order does not matter."""
    alike = np.tile(TRAINING[0][:1], (42, 1, 1)), np.zeros(42, np.uint8)
    first, other = (train(alike, seed, augmentation="flip", epochs=1)[0] for seed in (1, 2))
    assert same_weights(*(train(alike, seed, epochs=1)[0] for seed in (1, 2)))
    assert not same_weights(first, other)


def test_the_cosine_schedule_ends_with_the_last_step_of_the_last_epoch():
    model, _ = train(learning_rate_schedule="cosine", epochs=4, batch_size=10)
    steps = 4 * 5  # batches of 10, 10, 10, 10 and 2 images
    rate = model.optimizer._learning_rate
    assert int(model.optimizer.iterations) == steps
    assert float(rate(steps)) == pytest.approx(0, abs=1e-9) and float(rate(steps - 1)) > 1e-5


def test_the_cosine_schedule_rises_within_a_twentieth_of_the_steps_then_falls_to_zero():
    settings = train_settings(learning_rate=0.5, learning_rate_schedule="cosine")
    rate = build_optimizer(settings, 1000)._learning_rate
    # Loshchilov and Hutter, SGDR (2017), formula 5, one cycle
    expected = {0: 0.0, 25: 0.25, 50: 0.5, 50 + 950 / 3: 0.375, 525: 0.25, 1000: 0.0}
    assert {step: float(rate(step)) for step in expected} == pytest.approx(expected, abs=1e-6)


def test_weight_decay_takes_its_share_times_the_rate_off_weights_not_off_biases_and_normalization():
    model = build(model_settings(batch_normalization=True), (4, 4), classes=3)
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(np.full(variable.shape, 2))
    adam = build_optimizer(train_settings(learning_rate=0.5, weight_decay=0.1), steps=1)
    adam.build(variables)
    # so that Adam itself does nothing
    adam.apply([keras.ops.zeros_like(variable) for variable in variables])
    decayed = {
        variable.path.rsplit("/", 1)[-1]: set(variable.numpy().ravel()) for variable in variables
    }
    unchanged = {name: {2.0} for name in ("bias", "gamma", "beta")}
    assert decayed == {"kernel": {np.float32(2 - 0.5 * 0.1 * 2)}} | unchanged


def variants(augmentation: str, seed: int = 1) -> list[bytes]:
    """Return what becomes of 500 copies of an image that is unlike its mirror image."""
    image = np.arange(1, 21, dtype=np.uint8).reshape(5, 4)
    copies = np.tile(image, (500, 1, 1)), np.arange(500)
    batches = list(augmented(make_dataset(*copies, batch_size=100), augmentation, seed))
    assert [label for _, labels in batches for label in labels.numpy()] == list(range(500))
    return [np.float32(image).tobytes() for images, _ in batches for image in images.numpy()]


@pytest.mark.parametrize(
    ("augmentation", "mirrored", "shifts"),
    [("none", False, [0]), ("flip", True, [0]), ("flip_shift", True, [-1, 0, 1])],
)
def test_augmentation_mirrors_and_moves_by_a_pixel_and_does_nothing_else(
    augmentation, mirrored, shifts
):
    image = np.arange(1, 21, dtype=np.float32).reshape(5, 4)
    padded = [np.pad(one, 1) for one in (image, image[:, ::-1])[: 1 + mirrored]]
    expected = {
        one[1 - down : 6 - down, 1 - right : 5 - right].tobytes()
        for one in padded
        for down in shifts
        for right in shifts
    }
    found = variants(augmentation)
    assert set(found) == expected
    assert found == variants(augmentation)
    assert (found != variants(augmentation, seed=2)) == mirrored


@pytest.mark.parametrize("items", [1, 1000, 2345])
def test_predict_gives_the_probabilities_of_every_image_in_order(plain, items):
    images = np.random.default_rng(1).integers(0, 256, (items, 4, 4), np.uint8)
    probabilities = predict(plain[0], images)
    assert (probabilities.shape, probabilities.dtype) == ((items, 3), np.float32)
    np.testing.assert_allclose(probabilities, plain[0](images).numpy(), rtol=1e-4)


def test_each_epoch_is_printed_and_a_loss_that_is_no_number_ends_training(capsys):
    log = EpochLog(epochs=2)
    row = dict(zip(COLUMNS, (1, 1 / 3, 0.5, 0.25, 1.0), strict=True))
    log.on_epoch_end(0, {name: np.float32(row[name]) for name in COLUMNS[1:]} | {"more": 1})
    assert capsys.readouterr().out == f"{format_epoch(row, 2)}\n"
    assert log.rows == [pytest.approx(row)]
    with pytest.raises(UserError, match=r"diverged.*epoch 2\. Lower train\.learning_rate"):
        log.on_epoch_end(1, row | {"loss": math.nan})


def orders(batch_size: int, seed: int | None) -> tuple[list[list[int]], list[int]]:
    """Return the order of 23 items in each of two epochs, and the sizes of all batches."""
    labels = np.arange(23, dtype=np.uint8)
    images = np.tile(labels[:, None, None], (1, 2, 2))
    batches = make_dataset(images, labels, batch_size=batch_size, seed=seed)
    epochs, sizes = [[], []], []
    for order in epochs:
        for images, chosen in batches.as_numpy_iterator():
            # each with its label
            np.testing.assert_array_equal(images, np.tile(chosen[:, None, None], (1, 2, 2)))
            order += chosen.tolist()
            sizes.append(len(chosen))
    return epochs, sizes


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(10, [10, 10, 3]), (23, [23]), (100, [23]), (11, [11, 11, 1])]
)
def test_batches_are_full_but_the_last_and_in_the_order_of_the_arrays(batch_size, sizes):
    assert orders(batch_size, seed=None) == ([list(range(23))] * 2, sizes * 2)


def test_with_a_seed_every_epoch_has_another_order_that_depends_on_nothing_else():
    (first, second), _ = orders(10, seed=1)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second and first != list(range(23))
    assert orders(7, seed=1)[0] == [first, second]
    assert orders(10, seed=2)[0] != [first, second]


def test_memory_mapped_images_are_read_a_batch_at_a_time(tmp_path):
    asked = []

    class Watched(np.memmap):
        def __getitem__(self, chosen):
            asked.append(len(chosen))
            return super().__getitem__(chosen)

    (tmp_path / "images").write_bytes(TRAINING[0].tobytes())
    mapped = Watched(tmp_path / "images", np.uint8, "r", shape=TRAINING[0].shape)
    batches = list(make_dataset(mapped, batch_size=8).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([images for (images,) in batches]), TRAINING[0])
    assert asked == [8, 8, 8, 8, 8, 2]
