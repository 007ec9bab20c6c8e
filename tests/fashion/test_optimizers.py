import numpy as np
import pytest

from fashion.model.backend import keras
from fashion.model.optimizers import FusedAdam

SHAPES = [(7, 5), (5,), (1,)]


def trained(optimizer, scale: float) -> list[np.ndarray]:
    """Return variables after 10 updates with the same random gradients for every optimizer."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=shape), dtype="float32") for shape in SHAPES]
    for _ in range(10):
        gradients = [np.float32(scale * random.normal(size=shape)) for shape in SHAPES]
        optimizer.apply([keras.ops.convert_to_tensor(one) for one in gradients], variables)
    return [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 1.0),
        ({}, 1e-6),  # where gradients are that small, epsilon matters
        ({"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2}, 1.0),
        ({"weight_decay": 0.1, "clipnorm": 0.5}, 1.0),
    ],
)
def test_variables_and_moments_are_those_of_keras(settings, scale):
    fused, plain = FusedAdam(**settings), keras.optimizers.Adam(**settings)
    tolerance = settings.get("learning_rate", 1e-3) * 1e-4
    for ours, theirs in zip(trained(fused, scale), trained(plain, scale), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=tolerance)
    for ours, theirs in zip(fused.variables, plain.variables, strict=True):
        # 1 - 0.999, in float32
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=5e-5, atol=1e-9)


def test_float64_variables_are_updated_in_float64():
    """Batch normalization has them. A step of 1e-9 would not change a 1 in float32."""
    variable = keras.Variable([1.0], dtype="float64")
    FusedAdam(1e-9).apply([keras.ops.convert_to_tensor([5.0], "float64")], [variable])
    assert np.asarray(variable) == pytest.approx([1 - 1e-9], abs=1e-12)
