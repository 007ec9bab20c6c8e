"""Generate images of ten shapes in the format of Fashion-MNIST.

They serve tests and machines that can't reach the real data. A network learns to tell the shapes
apart in a few epochs; its scores say nothing about Fashion-MNIST.
"""

from collections.abc import Callable

import numpy as np

SIZE = 28  # width and height in pixels

# A function for each class: x grows to the right and y down, from -1 to 1; positive is inside
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda x, y: 0.65 - np.hypot(x, y),
    "ring": lambda x, y: 0.15 - abs(np.hypot(x, y) - 0.6),
    "square": lambda x, y: 0.6 - np.maximum(abs(x), abs(y)),
    "frame": lambda x, y: 0.15 - abs(np.maximum(abs(x), abs(y)) - 0.6),
    "diamond": lambda x, y: 0.8 - abs(x) - abs(y),
    "triangle": lambda x, y: np.minimum(0.6 - y, 0.5 * (y + 0.9) - abs(x)),
    "plus": lambda x, y: _in_square(x, y, 0.2 - np.minimum(abs(x), abs(y))),
    "cross": lambda x, y: _in_square(x, y, 0.2 - abs(abs(x) - abs(y))),
    "horizontal bars": lambda x, y: _in_square(x, y, 0.15 - abs(abs(y) - 0.45)),
    "vertical bars": lambda x, y: _in_square(x, y, 0.15 - abs(abs(x) - 0.45)),
}


def synthetic_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` images, with all classes equally often, in random order.

    The images are (count, 28, 28) and the labels (count,), both uint8. Equal arguments give equal
    pixels.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % len(SHAPES)).astype(np.uint8)
    return np.stack([synthetic_image(label, random) for label in labels]), labels


def synthetic_image(label: int, random: np.random.Generator) -> np.ndarray:
    """Return an image of the class `label`, 0 to 9, as (28, 28) uint8, light on dark.

    Place, size, proportions, angle, brightness and the noise of each pixel are random.
    """
    shape = list(SHAPES.values())[label]
    angle, stretch = random.normal(0, 0.1), random.uniform(0.9, 1.3, (2, 1, 1))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    grid = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j] + random.uniform(-0.15, 0.15, (2, 1, 1))
    y, x = stretch * np.tensordot(rotation, grid, axes=1)
    brightness = random.uniform(70, 255) * random.normal(1, 0.15, (SIZE, SIZE))
    edge = (10 * shape(x, y)).clip(0, 1)  # from dark to light within 0.1
    return (edge * brightness).clip(0, 255).astype(np.uint8)


def _in_square(x: np.ndarray, y: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.minimum(0.75 - np.maximum(abs(x), abs(y)), inside)
