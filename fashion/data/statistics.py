"""Compute statistics of the data: counts, pixels, and test images that are also in training.

Images come in pieces, each (items, height, width) uint8, so memory does not grow with the data.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np


def images_per_class(labels: np.ndarray, class_names: list[str]) -> dict[str, int]:
    """Return the number of items of every class by its name; `labels` is (items,) integers."""
    return {name: int(np.count_nonzero(labels == i)) for i, name in enumerate(class_names)}


def pixel_mean_and_std(pieces: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return mean and population standard deviation of all pixels, scaled to [0, 1].

    They are computed from the counts of the 256 values, so they are exact for any number of images.
    """
    counts = sum(np.bincount(images.ravel(), minlength=256) for images in pieces)
    shares, values = counts / counts.sum(), np.arange(256) / 255
    mean = float(shares @ values)
    return mean, float(np.sqrt(shares @ (values - mean) ** 2))


def count_duplicates(pieces: Iterable[np.ndarray], among: Iterable[np.ndarray]) -> int:
    """Count the images of `pieces` that also occur in `among`, by digests of 16 bytes."""
    counts = Counter(_digests(pieces))
    found = {digest for digest in _digests(among) if digest in counts}
    return sum(counts[digest] for digest in found)


def _digests(pieces: Iterable[np.ndarray]) -> Iterator[bytes]:
    for images in pieces:
        yield from (hashlib.blake2b(image, digest_size=16).digest() for image in images)
