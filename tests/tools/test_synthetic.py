import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tools.synthetic import SHAPES, synthetic_image, synthetic_images


def test_images_and_labels_have_the_format_of_fashion_mnist():
    images, labels = synthetic_images(33, seed=1)
    assert (images.shape, images.dtype) == ((33, 28, 28), np.uint8)
    assert (labels.shape, labels.dtype) == ((33,), np.uint8)
    assert np.bincount(labels).tolist() == [4, 4, 4, 3, 3, 3, 3, 3, 3, 3]
    assert (labels != np.arange(33) % 10).any()  # in random order


def test_equal_seeds_give_equal_images_and_others_do_not():
    (images, labels), (again, labels_again), (other, _) = (
        synthetic_images(20, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert (images != other).any()


@pytest.mark.parametrize("label", range(10), ids=list(SHAPES))
def test_images_are_light_on_dark_and_all_different(label):
    random = np.random.default_rng(1)
    images = np.stack([synthetic_image(label, random) for _ in range(20)])
    lit = (images > 25).mean(axis=(1, 2))  # share of the pixels of each image
    assert (lit > 0.05).all() and (lit < 0.75).all()
    assert len({image.tobytes() for image in images}) == 20


def test_the_nearest_neighbour_tells_classes_apart():
    (images, labels), (others, expected) = (synthetic_images(500, seed) for seed in (1, 2))
    nearest = cdist(others.reshape(500, -1), images.reshape(500, -1)).argmin(axis=1)
    assert (labels[nearest] == expected).mean() > 0.8  # 0.1 by chance
