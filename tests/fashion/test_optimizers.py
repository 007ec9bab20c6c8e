import numpy as np
import pytest

from fashion.model.backend import keras
from fashion.model.optimizers import FusedAdam

SHAPES = [(7, 5), (5,), (1,)]


def trained(optimizer, steps, scale=1.0):
    """Variables after `steps` updates with random gradients, the same for every optimizer."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=shape), dtype="float32") for shape in SHAPES]
    for _ in range(steps):
        gradients = [
            keras.ops.convert_to_tensor(scale * random.normal(size=shape), "float32")
            for shape in SHAPES
        ]
        optimizer.apply(gradients, variables)
    return [np.asarray(variable) for variable in variables]


def adam_by_numpy(steps, learning_rate, beta_1, beta_2, epsilon, scale=1.0):
    """Compute Adam in float64, as the paper writes it.

    That is with bias-corrected moments, hence with another epsilon (hat) each step.
    """
    random = np.random.default_rng(0)
    variables = [random.normal(size=shape).astype("float32").astype("float64") for shape in SHAPES]
    first, second = [0.0] * len(SHAPES), [0.0] * len(SHAPES)
    for step in range(1, steps + 1):
        for i, shape in enumerate(SHAPES):
            gradient = (scale * random.normal(size=shape)).astype("float32").astype("float64")
            first[i] = beta_1 * first[i] + (1 - beta_1) * gradient
            second[i] = beta_2 * second[i] + (1 - beta_2) * gradient**2
            unbiased_first, unbiased_second = (
                first[i] / (1 - beta_1**step),
                second[i] / (1 - beta_2**step),
            )
            epsilon_of_step = epsilon / np.sqrt(1 - beta_2**step)
            variables[i] = variables[i] - learning_rate * unbiased_first / (
                np.sqrt(unbiased_second) + epsilon_of_step
            )
    return variables


SETTINGS = [
    {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},  # Keras' defaults
    {"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("steps", [1, 2, 100])
@pytest.mark.parametrize("scale", [1.0, 1e-6])  # where gradients are that small, epsilon matters
def test_the_update_is_that_of_keras_and_of_the_paper(settings, steps, scale):
    fused = trained(FusedAdam(**settings), steps, scale)
    for other in (
        trained(keras.optimizers.Adam(**settings), steps, scale),
        adam_by_numpy(steps, **settings, scale=scale),
    ):
        for ours, theirs in zip(fused, other, strict=True):
            np.testing.assert_allclose(
                ours, theirs, rtol=1e-5, atol=settings["learning_rate"] * 1e-4
            )


def test_moments_are_those_of_keras():
    fused, plain = FusedAdam(), keras.optimizers.Adam()
    trained(fused, 100)
    trained(plain, 100)
    for ours, theirs in zip(fused.variables, plain.variables, strict=True):
        # 1 - 0.999, in float32
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=5e-5, atol=1e-9)


def test_decoupled_weight_decay_and_clipping_stay_kerass_own():
    settings = {"weight_decay": 0.1, "clipnorm": 0.5}
    for ours, theirs in zip(
        trained(FusedAdam(**settings), 20),
        trained(keras.optimizers.Adam(**settings), 20),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_float64_variables_are_updated_in_float64():
    """Those of batch normalization; a step of 1e-9 would not change a 1 in float32."""
    variable = keras.Variable([1.0], dtype="float64")
    FusedAdam(1e-9).apply([keras.ops.convert_to_tensor([5.0], "float64")], [variable])
    assert np.asarray(variable) == pytest.approx([1 - 1e-9], abs=1e-12)
