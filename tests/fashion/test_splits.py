import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from fashion.core.errors import UserError
from fashion.data.splits import stratified_split

LABELS = np.random.default_rng(0).permutation([0] * 60 + [1] * 30 + [2] * 10)


@pytest.mark.parametrize(
    ("size", "per_class"),
    [
        (7, [4, 2, 1]),  # exactly 4.2, 2.1 and 0.7 items: the largest fraction is rounded up
        (15, [9, 5, 1]),  # exactly 9, 4.5 and 1.5: of equal fractions, the first is
        (0.061, [4, 2, 1]),  # a share of the items is rounded up
    ],
)
def test_every_class_is_split_in_proportion(size, per_class):
    in_validation = stratified_split(LABELS, size, seed=1)
    assert (in_validation.dtype, in_validation.shape) == (np.dtype(bool), (100,))
    assert np.bincount(LABELS[in_validation]).tolist() == per_class


@pytest.mark.parametrize("size", [20, 0.7])
@pytest.mark.parametrize("seed", [0, 42])
def test_the_choice_is_that_of_scikit_learn(size, seed):
    _, chosen = train_test_split(range(100), test_size=size, stratify=LABELS, random_state=seed)
    assert np.flatnonzero(stratified_split(LABELS, size, seed)).tolist() == sorted(chosen)


@pytest.mark.parametrize(
    ("labels", "size", "reason"),
    [
        (LABELS, -1, "both training and validation need images"),
        (LABELS, 100, "both training and validation need images"),
        (LABELS, 1, "class 1 would be missing"),  # three classes
        (LABELS, 98, "class 2 would be missing"),
        (np.array([0] * 99 + [1]), 10, "class 1 would be missing"),
    ],
)
def test_an_impossible_size_is_named(labels, size, reason):
    with pytest.raises(UserError) as error:
        stratified_split(labels, size, seed=1)
    assert str(error.value).startswith(
        f"prepare.validation_size: {size} of 100 images can't be split: {reason}"
    )
