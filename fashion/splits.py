"""The validation split: which training images are kept back to choose by."""

import numpy as np
from sklearn.model_selection import train_test_split

from fashion.errors import UserError


def stratified_split(
    labels: np.ndarray, validation_size: int | float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose `validation_size` of the items for validation, every class in proportion to its share.

    `labels` is (items,) integers; a size below 1 is a share of them. Returns the indices for
    training and for validation, int64, each in ascending order; together they are every item once.
    Raises UserError where the size leaves a class without an item on either side.
    """
    items = np.arange(len(labels))
    try:
        train, validation = train_test_split(
            items, test_size=validation_size, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise UserError(
            f"prepare.validation_size: {validation_size} of {len(labels)} training images"
            f" can't be split: {error}"
        ) from None
    missing = set(np.unique(labels)) - (set(labels[train]) & set(labels[validation]))
    if missing:
        raise UserError(
            f"prepare.validation_size: with {validation_size} of {len(labels)} training images,"
            f" class {min(missing)} would be missing from training or from validation"
        )
    return np.sort(train), np.sort(validation)
