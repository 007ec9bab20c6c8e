import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from fashion.core.errors import UserError
from fashion.data.splits import stratified_split

LABELS = np.random.default_rng(0).permutation([0] * 60 + [1] * 30 + [2] * 10)


@pytest.mark.parametrize(
    ("size", "per_class"),
    [(20, [12, 6, 2]), (7, [4, 2, 1])],  # shares of 7: 4.2, 2.1 and 0.7 items
)
def test_every_class_is_split_in_proportion_and_the_largest_fractions_rounded_up(size, per_class):
    in_validation = stratified_split(LABELS, size, seed=1)
    assert (in_validation.dtype, in_validation.shape) == (np.dtype(bool), (100,))
    assert np.bincount(LABELS[in_validation]).tolist() == per_class


@pytest.mark.parametrize("size", [20, 0.2, 50, 0.7])
@pytest.mark.parametrize("seed", [0, 42])
def test_it_is_the_choice_of_scikit_learn(size, seed):
    _, chosen = train_test_split(range(100), test_size=size, stratify=LABELS, random_state=seed)
    assert np.flatnonzero(stratified_split(LABELS, size, seed)).tolist() == sorted(chosen)


@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=5),
    share=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_class_is_off_its_share_by_less_than_one(counts, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(range(len(counts)), counts))
    try:
        in_validation = stratified_split(labels, share, seed)
    except UserError:
        return
    assert in_validation.sum() == math.ceil(share * len(labels))
    kept_back = np.bincount(labels[in_validation], minlength=len(counts))
    assert (kept_back > 0).all() and (kept_back < counts).all()
    exact = np.array(counts) * in_validation.sum() / len(labels)
    assert (abs(kept_back - exact) < 1).all()


@pytest.mark.parametrize(
    ("labels", "size", "reason"),
    [
        (LABELS, -1, "both training and validation need images"),
        (LABELS, 100, "both training and validation need images"),
        (LABELS, 2, "class 2 would be missing"),  # three classes
        (LABELS, 98, "class 2 would be missing"),
        (np.array([0] * 99 + [1]), 10, "class 1 would be missing"),
    ],
)
def test_an_impossible_size_is_named(labels, size, reason):
    with pytest.raises(UserError) as error:
        stratified_split(labels, size, seed=1)
    assert str(error.value).startswith(
        f"prepare.validation_size: {size} of 100 training images can't be split: {reason}"
    )
