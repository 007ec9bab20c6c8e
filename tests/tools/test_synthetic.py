import numpy as np
from scipy.spatial.distance import cdist

from tools.synthetic import synthetic_images


def test_equal_seeds_give_equal_images_and_others_do_not():
    (images, labels), (again, labels_again), (other, _) = (
        synthetic_images(20, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert (images != other).any()


def test_the_nearest_neighbour_tells_classes_apart():
    (images, labels), (others, expected) = (synthetic_images(500, seed) for seed in (1, 2))
    nearest = cdist(others.reshape(500, -1), images.reshape(500, -1)).argmin(axis=1)
    assert (labels[nearest] == expected).mean() > 0.8  # 0.1 by chance
