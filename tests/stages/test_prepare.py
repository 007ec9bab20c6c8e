import json

import numpy as np
import pytest

from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError
from fashion.data.idx import read_idx, write_idx
from stages.prepare import read_labels


@pytest.fixture
def dataset(repository):
    return read_dataset(repository.folder / "dataset.yaml")


def load(repository, split):
    folder = repository.folder / "data/prepared"
    return np.load(folder / f"{split}_images.npy"), np.load(folder / f"{split}_labels.npy")


def raw(repository, split):
    folder = repository.folder / "data/raw"
    files = read_dataset(repository.folder / "dataset.yaml").files
    images = read_idx(folder / getattr(files, f"{split}_images").name, (None, 28, 28))
    return images, read_idx(folder / getattr(files, f"{split}_labels").name, (None,))


def test_training_and_validation_images_are_the_raw_ones_each_once_with_its_label(repository):
    pairs = [load(repository, split) for split in ("train", "validation")]
    assert all(array.dtype == np.uint8 for pair in pairs for array in pair)
    prepared = [
        (image.tobytes(), label)
        for images, labels in pairs
        for image, label in zip(images, labels, strict=True)
    ]
    images, labels = raw(repository, "train")
    assert sorted(prepared) == sorted(
        (image.tobytes(), label) for image, label in zip(images, labels, strict=True)
    )


def test_the_validation_split_has_its_size_and_every_class_in_proportion(repository):
    images, labels = load(repository, "validation")
    assert len(images) == 200 and np.bincount(labels).tolist() == [20] * 10


def test_the_test_images_are_the_raw_ones_in_order(repository):
    for prepared, original in zip(load(repository, "test"), raw(repository, "test"), strict=True):
        np.testing.assert_array_equal(prepared, original)


def test_data_json_describes_the_data(repository):
    described = json.loads(repository.read("metrics/data.json"))
    images, _ = raw(repository, "train")
    assert described["name"] == "drawn garments (not Fashion-MNIST)"
    assert described["images"] == {"train": 1000, "validation": 200, "test": 400}
    assert described["images_per_class"]["test"]["Ankle boot"] == 40
    assert described["pixel_mean"] == pytest.approx((images / 255).mean(), abs=1e-6)
    assert described["pixel_std"] == pytest.approx((images / 255).std(), abs=1e-6)
    assert described["test_images_also_in_training"] == 0


def test_images_and_labels_must_be_equally_many(dataset, tmp_path):
    write_idx(tmp_path / "images.gz", np.zeros((3, 28, 28), np.uint8))
    write_idx(tmp_path / "labels.gz", np.zeros(2, np.uint8))
    with pytest.raises(UserError, match=r"images\.gz has 3 images, labels\.gz 2 labels"):
        read_labels(tmp_path / "labels.gz", tmp_path / "images.gz", dataset)


def test_a_label_beyond_the_classes_is_named_with_its_place(dataset, tmp_path):
    write_idx(tmp_path / "images.gz", np.zeros((3, 28, 28), np.uint8))
    write_idx(tmp_path / "labels.gz", np.array([9, 10, 0], np.uint8))
    with pytest.raises(UserError, match="label 1 is 10, expected 0 to 9"):
        read_labels(tmp_path / "labels.gz", tmp_path / "images.gz", dataset)


def test_images_of_another_size_are_refused(dataset, tmp_path):
    write_idx(tmp_path / "images.gz", np.zeros((1, 28, 27), np.uint8))
    write_idx(tmp_path / "labels.gz", np.zeros(1, np.uint8))
    with pytest.raises(UserError, match="dimensions are 1 x 28 x 27, expected any x 28 x 28"):
        read_labels(tmp_path / "labels.gz", tmp_path / "images.gz", dataset)


def test_empty_files_are_refused(dataset, tmp_path):
    write_idx(tmp_path / "images.gz", np.zeros((0, 28, 28), np.uint8))
    write_idx(tmp_path / "labels.gz", np.zeros(0, np.uint8))
    with pytest.raises(UserError, match="is empty"):
        read_labels(tmp_path / "labels.gz", tmp_path / "images.gz", dataset)


def test_an_impossible_validation_size_is_one_message(repository):
    repository.set("prepare.validation_size=1200")
    output = repository.python("stages.prepare", status=1)
    assert (
        output.startswith("prepare: prepare.validation_size: 1200 of 1200")
        and "Traceback" not in output
    )
