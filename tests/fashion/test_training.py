import math

import numpy as np
import pytest

from fashion.core.errors import UserError
from fashion.model import training
from fashion.model.backend import keras
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
# Labels are random, so a network learns them by overfitting.
TRAINING = RANDOM.integers(0, 256, (42, 4, 4), np.uint8), RANDOM.integers(0, 3, 42, np.uint8)
VALIDATION = RANDOM.integers(0, 256, (30, 4, 4), np.uint8), RANDOM.integers(0, 3, 30, np.uint8)


def test_fit_hands_on_the_data_the_seed_and_the_number_of_all_steps(monkeypatch):
    handed = {}

    def spy(name):
        original = getattr(training, name)

        def call(*arguments, **keywords):
            handed.setdefault(name, []).append((*arguments, *keywords.values()))
            return original(*arguments, **keywords)

        monkeypatch.setattr(training, name, call)

    for name in ("make_dataset", "augmented", "build_optimizer"):
        spy(name)
    settings = train_settings(
        epochs=2,
        batch_size=10,
        augmentation="flip",
        weight_decay=0.1,
        learning_rate_schedule="cosine",
    )
    model = build(model_settings(), (4, 4), classes=3)
    fit(model, TRAINING, VALIDATION, settings, seed=7)
    training_arrays, validation_arrays = handed["make_dataset"]
    assert all(a is b for a, b in zip(training_arrays, TRAINING, strict=False))
    assert all(a is b for a, b in zip(validation_arrays, VALIDATION, strict=False))
    assert (training_arrays[2:], validation_arrays[2:]) == ((10, 7), (1000,))
    assert [arguments[1:] for arguments in handed["augmented"]] == [("flip", 7)]
    # batches of 10, 10, 10, 10 and 2 images, twice
    assert handed["build_optimizer"] == [(settings, 10)]
    assert int(model.optimizer.iterations) == 10


def test_the_cosine_schedule_rises_within_a_twentieth_of_the_steps_then_falls_to_zero():
    settings = train_settings(learning_rate=0.5, learning_rate_schedule="cosine")
    rate = build_optimizer(settings, 1000)._learning_rate
    # Loshchilov and Hutter, SGDR (2017), formula 5, one cycle
    expected = {0: 0.0, 25: 0.25, 50: 0.5, 50 + 950 / 3: 0.375, 525: 0.25, 1000: 0.0}
    assert {step: float(rate(step)) for step in expected} == pytest.approx(expected, abs=1e-6)


def test_weight_decay_shrinks_weights_but_not_biases_and_normalization():
    model = build(model_settings(batch_normalization=True), (4, 4), classes=3)
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(np.full(variable.shape, 2))
    adam = build_optimizer(train_settings(learning_rate=0.5, weight_decay=0.1), steps=1)
    adam.build(variables)
    # gradients of zero, so that Adam itself changes nothing
    adam.apply([keras.ops.zeros_like(variable) for variable in variables])
    decayed = {
        variable.path.rsplit("/", 1)[-1]: set(variable.numpy().ravel()) for variable in variables
    }
    unchanged = {name: {2.0} for name in ("bias", "gamma", "beta")}
    assert decayed == {"kernel": {np.float32(2 - 0.5 * 0.1 * 2)}} | unchanged


IMAGE = np.arange(1, 49, dtype=np.uint8).reshape(12, 4)  # unlike its mirror image


def variants(augmentation: str, seed: int = 1) -> list[bytes]:
    """Return the float32 bytes of 500 augmented copies of IMAGE."""
    copies = np.tile(IMAGE, (500, 1, 1)), np.arange(500)
    batches = list(augmented(make_dataset(*copies, batch_size=100), augmentation, seed))
    assert [label for _, labels in batches for label in labels.numpy()] == list(range(500))
    return [np.float32(image).tobytes() for images, _ in batches for image in images.numpy()]


@pytest.mark.parametrize(
    ("augmentation", "is_mirrored", "shifts"),
    [("none", False, [0]), ("flip", True, [0]), ("flip_shift", True, [-1, 0, 1])],
)
def test_augmentation_mirrors_and_moves_by_a_pixel_and_does_nothing_else(
    augmentation, is_mirrored, shifts
):
    images = (IMAGE, IMAGE[:, ::-1])[: 1 + is_mirrored]
    padded = [np.pad(image, 1).astype(np.float32) for image in images]
    expected = {
        image[1 - down : 13 - down, 1 - right : 5 - right].tobytes()
        for image in padded
        for down in shifts
        for right in shifts
    }
    found = variants(augmentation)
    assert set(found) == expected
    other = variants(augmentation, seed=2)
    if is_mirrored:
        assert found == variants(augmentation) != other
    if len(shifts) > 1:  # the empty rows, which mirroring leaves, depend on the seed, too
        pixels = [np.frombuffer(b"".join(one), "f4") for one in (found, other)]
        assert not np.array_equal(*(one.reshape(500, 12, 4).any(axis=2) for one in pixels))


def test_predict_gives_the_probabilities_of_every_image_in_order():
    model = build(model_settings(), (4, 4), classes=3)
    images = np.random.default_rng(1).integers(0, 256, (2345, 4, 4), np.uint8)
    probabilities = predict(model, images)
    assert (probabilities.shape, probabilities.dtype) == ((2345, 3), np.float32)
    np.testing.assert_allclose(probabilities, model(images).numpy(), rtol=1e-4)


def test_each_epoch_is_printed_and_a_loss_that_is_not_a_number_ends_training(capsys):
    log = EpochLog(epochs=2)
    row = dict(zip(COLUMNS, (1, 1 / 3, 0.5, 0.25, 1.0), strict=True))
    log.on_epoch_end(0, {name: np.float32(row[name]) for name in COLUMNS[1:]} | {"more": 1})
    assert capsys.readouterr().out == f"{format_epoch(row, 2)}\n"
    assert log.rows == [pytest.approx(row)]
    for wrong in ({"loss": math.nan}, {"val_loss": math.inf}):
        with pytest.raises(UserError, match=r"diverged.*epoch 2\. Lower train\.learning_rate"):
            log.on_epoch_end(1, row | wrong)


def orders(batch_size: int, seed: int | None) -> tuple[list[list[int]], list[int]]:
    """Return the order of 23 items in each of two epochs, and the sizes of all batches."""
    labels = np.arange(23, dtype=np.uint8)
    images = np.tile(labels[:, None, None], (1, 2, 2))
    batches = make_dataset(images, labels, batch_size=batch_size, seed=seed)
    epochs, sizes = [[], []], []
    for order in epochs:
        for images, chosen in batches.as_numpy_iterator():
            # each image has its label
            np.testing.assert_array_equal(images, np.tile(chosen[:, None, None], (1, 2, 2)))
            order += chosen.tolist()
            sizes.append(len(chosen))
    return epochs, sizes


@pytest.mark.parametrize(("batch_size", "sizes"), [(10, [10, 10, 3]), (23, [23]), (100, [23])])
def test_without_a_seed_batches_are_full_but_the_last_and_in_order(batch_size, sizes):
    assert orders(batch_size, seed=None) == ([list(range(23))] * 2, sizes * 2)


def test_with_a_seed_each_epoch_has_another_order_that_depends_on_nothing_else():
    (first, second), _ = orders(10, seed=1)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second and first != list(range(23))
    assert orders(7, seed=1)[0] == [first, second]
    assert orders(10, seed=2)[0] != [first, second]


def test_memory_mapped_images_are_read_batch_by_batch(tmp_path):
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
