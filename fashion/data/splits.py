"""Choose the validation split: training images kept back, on which models are compared."""

import math

import numpy as np

from fashion.core.errors import UserError


def stratified_split(labels: np.ndarray, validation_size: int | float, seed: int) -> np.ndarray:
    """Choose `validation_size` items for validation, every class in proportion.

    `labels` is (items,) integers. A size below 1 is a share of the items, rounded up. Where the
    number of a class is not whole, the largest fractions are rounded up (Hare's method). Returns
    (items,) bool, true for validation. Where all numbers are whole, the choice is that of
    scikit-learn's `train_test_split(stratify=labels, random_state=seed)`, which needs some hundred
    bytes per item. Raises UserError if a class would have no item on one of the sides.
    """
    items = len(labels)
    size = math.ceil(validation_size * items) if 0 < validation_size < 1 else validation_size
    cannot = f"prepare.validation_size: {validation_size} of {items} images can't be split:"
    if not 0 < size < items:
        raise UserError(f"{cannot} both training and validation need images")
    classes, counts = np.unique(labels, return_counts=True)
    sizes, fractions = np.divmod(counts * size, items)
    sizes[np.argsort(-fractions, kind="stable")[: size - sizes.sum()]] += 1
    if (missing := classes[(sizes == 0) | (sizes == counts)]).size:
        raise UserError(f"{cannot} class {missing[0]} would be missing on one of the sides")
    random = np.random.RandomState(seed)  # NumPy promises never to change its numbers
    in_validation = np.zeros(items, bool)
    for label, count, kept_back in zip(classes, counts, sizes, strict=True):
        of_class = np.flatnonzero(labels == label)
        in_validation[of_class[random.permutation(count)[count - kept_back :]]] = True
    return in_validation
