"""What is in the data: counts, pixel statistics, and test images that were seen in training."""

import numpy as np


def images_per_class(labels: np.ndarray, class_names: list[str]) -> dict[str, int]:
    """Count (items,) integer labels by the name of their class, every class named, in order."""
    counts = np.bincount(labels, minlength=len(class_names))
    return dict(zip(class_names, counts.tolist(), strict=True))


def pixel_mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation of all uint8 pixels, after scaling to [0, 1].

    Exact, whatever the number of images: computed from the counts of the 256 values, not by summing pixels.
    """
    counts = np.bincount(images.ravel(), minlength=256) / images.size
    values = np.arange(256) / 255
    mean = float(counts @ values)
    return mean, float(np.sqrt(counts @ (values - mean) ** 2))


def count_duplicates(images: np.ndarray, among: np.ndarray) -> int:
    """How many of `images` occur in `among`, pixel for pixel. Both are (items, height, width) uint8."""
    known = {image.tobytes() for image in among}
    return sum(image.tobytes() in known for image in images)
