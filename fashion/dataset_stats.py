"""What is in the data: counts, pixel statistics, and test images that were seen in training."""

import hashlib

import numpy as np

CHUNK_SIZE = 1000  # images at a time; bounds memory, as NumPy counts in 8 bytes a pixel


def images_per_class(labels: np.ndarray, class_names: list[str]) -> dict[str, int]:
    """Count (items,) integer labels by the name of their class, every class named, in order."""
    counts = np.bincount(labels, minlength=len(class_names))
    return dict(zip(class_names, counts.tolist(), strict=True))


def pixel_mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation of all uint8 pixels, after scaling to [0, 1].

    Exact, whatever the number of images: computed from the counts of the 256 values, not by summing
    pixels.
    """
    parts = (
        images[start : start + CHUNK_SIZE].ravel() for start in range(0, len(images), CHUNK_SIZE)
    )
    counts = sum(np.bincount(part, minlength=256) for part in parts) / images.size
    values = np.arange(256) / 255
    mean = float(counts @ values)
    return mean, float(np.sqrt(counts @ (values - mean) ** 2))


def count_duplicates(images: np.ndarray, among: np.ndarray) -> int:
    """How many of `images` occur in `among`, pixel for pixel.

    Both are (items, height, width) uint8.
    """
    known = {_digest(image) for image in among}
    return sum(_digest(image) in known for image in images)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
