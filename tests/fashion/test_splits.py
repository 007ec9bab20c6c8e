import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from fashion.core.errors import UserError
from fashion.data.splits import stratified_split

LABELS = np.random.default_rng(0).permutation([0] * 60 + [1] * 30 + [2] * 10)


def test_every_class_is_split_in_proportion():
    in_validation = stratified_split(LABELS, 20, seed=1)
    assert (in_validation.dtype, in_validation.shape) == (np.dtype(bool), (100,))
    assert np.bincount(LABELS[~in_validation]).tolist() == [48, 24, 8]
    assert np.bincount(LABELS[in_validation]).tolist() == [12, 6, 2]


def test_largest_fractions_are_rounded_up():
    in_validation = stratified_split(LABELS, 7, seed=1)  # shares: 4.2, 2.1 and 0.7 items
    assert np.bincount(LABELS[in_validation]).tolist() == [4, 2, 1]


def test_the_seed_alone_decides():
    first, again, other = (stratified_split(LABELS, 20, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


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


# there are three classes, so 2 on a side are too few
@pytest.mark.parametrize("size", [-1, 0, 2, 98, 100, 101])
def test_an_impossible_size_is_told(size):
    with pytest.raises(UserError, match=f"prepare.validation_size: {size} of 100 training images"):
        stratified_split(LABELS, size, seed=1)


def test_a_class_of_one_item_is_told():
    with pytest.raises(UserError, match="class 1 would be missing from training or from"):
        stratified_split(np.array([0] * 99 + [1]), 10, seed=1)


@pytest.mark.parametrize("size", [2, 98])
def test_a_size_that_leaves_a_class_without_an_item_is_told(size):
    with pytest.raises(UserError):
        stratified_split(np.array([0] * 98 + [1] * 2), size, seed=1)
