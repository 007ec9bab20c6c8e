"""The validation split: which training images are kept back, to choose models by."""

import math

import numpy as np

from fashion.core.errors import UserError


def stratified_split(labels: np.ndarray, validation_size: int | float, seed: int) -> np.ndarray:
    """Choose `validation_size` of the items for validation, every class in proportion.

    `labels` is (items,) integers; a size below 1 is a share of them, rounded up. If a class's share
    is no whole number, the largest fractions are rounded up (Hare's method). Returns (items,) bool,
    true for validation. Apart from fractions, the choice is that of scikit-learn's
    `train_test_split(stratify=labels, random_state=seed)`, which needs some hundred bytes an item.
    Raises UserError if the size leaves a class without an item on either side.
    """
    items = len(labels)
    size = math.ceil(validation_size * items) if 0 < validation_size < 1 else validation_size
    cannot = (
        f"prepare.validation_size: {validation_size} of {items} training images can't be split:"
    )
    if not 0 < size < items:
        raise UserError(f"{cannot} both training and validation need images")
    classes = np.unique(labels)
    counts = np.array([np.count_nonzero(labels == label) for label in classes])
    sizes, fractions = np.divmod(counts * size, items)
    sizes[np.argsort(-fractions, kind="stable")[: size - sizes.sum()]] += 1
    if (missing := classes[(sizes == 0) | (sizes == counts)]).size:
        raise UserError(
            f"{cannot} class {missing[0]} would be missing from training or from validation"
        )
    random = np.random.RandomState(seed)  # whose numbers NumPy never changes
    in_validation = np.zeros(items, bool)
    for label, count, kept_back in zip(classes, counts, sizes, strict=True):
        of_class = np.flatnonzero(labels == label)
        in_validation[of_class[random.permutation(count)[count - kept_back :]]] = True
    return in_validation
