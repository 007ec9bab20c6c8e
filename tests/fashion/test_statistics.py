import numpy as np
import pytest

from fashion.data.statistics import count_duplicates, images_per_class, pixel_mean_and_std


def test_images_are_counted_by_the_name_of_their_class_in_order():
    counts = images_per_class(np.array([2, 0, 2, 2], np.uint8), ["Trouser", "Coat", "Bag", "Dress"])
    assert list(counts.items()) == [("Trouser", 1), ("Coat", 0), ("Bag", 3), ("Dress", 0)]


def test_mean_and_std_are_those_of_numpy_on_scaled_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2500, 7, 4), np.uint8)
    scaled = images / 255
    expected = pytest.approx((scaled.mean(), scaled.std()), rel=1e-12)
    assert pixel_mean_and_std(iter([images[:999], images[999:1000], images[1000:]])) == expected


def test_images_that_are_equal_to_one_among_others_are_counted():
    a, b, c = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    almost_a = a.copy()
    almost_a[3, 3] ^= 1
    images, others = np.stack([a, b, a, almost_a]), np.stack([c, a, a])
    assert count_duplicates([images[:1], images[1:]], among=[others[:1], others[1:]]) == 2
    assert count_duplicates([np.stack([a, b])], among=[np.stack([c, almost_a])]) == 0
