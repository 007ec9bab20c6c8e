import numpy as np
import pytest

from fashion.errors import UserError
from fashion.splits import stratified_split

LABELS = np.random.default_rng(0).permutation([0] * 60 + [1] * 30 + [2] * 10)


def test_the_sides_are_every_item_once_in_ascending_order():
    train, validation = stratified_split(LABELS, 20, seed=1)
    assert (len(train), len(validation)) == (80, 20)
    assert sorted([*train, *validation]) == list(range(100))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert train.dtype == validation.dtype == np.int64


def test_every_class_is_split_in_proportion():
    train, validation = stratified_split(LABELS, 20, seed=1)
    assert np.bincount(LABELS[train]).tolist() == [48, 24, 8]
    assert np.bincount(LABELS[validation]).tolist() == [12, 6, 2]


def test_a_class_whose_share_is_no_whole_number_is_off_by_less_than_one():
    _, validation = stratified_split(LABELS, 7, seed=1)  # shares: 4.2, 2.1 and 0.7 items
    assert len(validation) == 7
    assert (np.abs(np.bincount(LABELS[validation], minlength=3) - [4.2, 2.1, 0.7]) < 1).all()


def test_the_seed_alone_decides():
    first, again, other = (stratified_split(LABELS, 20, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# there are three classes, so 2 on a side are too few
@pytest.mark.parametrize("size", [-1, 0, 2, 98, 100, 101])
def test_an_impossible_size_is_told(size):
    with pytest.raises(UserError, match=f"prepare.validation_size: {size} of 100 training images"):
        stratified_split(LABELS, size, seed=1)


def test_a_class_of_one_item_is_told():
    with pytest.raises(UserError, match="only 1 member"):
        stratified_split(np.array([0] * 99 + [1]), 10, seed=1)


@pytest.mark.parametrize("size", [2, 98])
def test_a_size_that_leaves_a_class_without_an_item_is_told(size):
    with pytest.raises(UserError):
        stratified_split(np.array([0] * 98 + [1] * 2), size, seed=1)
