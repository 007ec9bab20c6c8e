import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from fashion.synthetic import draw_garment, draw_garments


def test_images_and_labels_have_the_form_of_fashion_mnist():
    images, labels = draw_garments(30, seed=1)
    assert (images.shape, images.dtype) == ((30, 28, 28), np.uint8)
    assert (labels.shape, labels.dtype) == ((30,), np.uint8)


@pytest.mark.parametrize(
    ("count", "per_class"), [(30, [3] * 10), (10, [1] * 10), (13, [2, 2, 2, 1, 1, 1, 1, 1, 1, 1])]
)
def test_classes_are_equally_frequent_as_far_as_the_count_allows(count, per_class):
    _, labels = draw_garments(count, seed=1)
    assert np.bincount(labels, minlength=10).tolist() == per_class


def test_classes_come_in_random_order():
    _, labels = draw_garments(30, seed=1)
    assert (labels != np.arange(30) % 10).any()


def test_the_seed_alone_decides():
    (images, labels), (again, labels_again), (other, _) = (
        draw_garments(20, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert (images != other).any()


@pytest.mark.parametrize("label", range(10))
def test_a_garment_is_light_on_dark_and_no_two_are_alike(label):
    random = np.random.default_rng(1)
    images = np.stack([draw_garment(label, random) for _ in range(20)])
    lit = (images > 25).mean(axis=(1, 2))  # share of pixels, of each image
    assert (lit > 0.05).all()
    assert (lit < 0.75).all()
    assert len({image.tobytes() for image in images}) == 20


def test_classes_can_be_told_apart():
    (images, labels), (others, their_labels) = (
        draw_garments(500, seed=1),
        draw_garments(200, seed=2),
    )
    neighbour = KNeighborsClassifier(1).fit(images.reshape(500, -1), labels)
    assert neighbour.score(others.reshape(200, -1), their_labels) > 0.6  # chance: 0.1
