"""A user's own data: one command, then the pipeline."""

import json

import numpy as np
import pytest

from fashion.core.errors import UserError
from fashion.data.idx import write_idx
from tools.dataset import describe_dataset


@pytest.fixture
def folder(tmp_path):
    """Four files of 40x30 images in three classes, bright where the label is."""
    for split, count in (("train", 120), ("test", 30)):
        labels = (np.arange(count) % 3).astype(np.uint8)
        images = np.zeros((count, 40, 30), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 10 * label : 10 * label + 10] = 200
        write_idx(tmp_path / f"mine/{split}-images.gz", images)
        write_idx(tmp_path / f"mine/{split}-labels.gz", labels)
    return tmp_path / "mine"


def test_the_files_say_what_they_are(folder):
    values = describe_dataset(folder, "mine")
    assert values["image_shape"] == [40, 30] and values["sources"] == [str(folder)]
    assert values["class_names"] == ["class 0", "class 1", "class 2"]
    assert values["files"]["test_labels"]["name"] == "test-labels.gz"
    assert values["files"]["train_images"]["bytes"] == (folder / "train-images.gz").stat().st_size
    with pytest.raises(UserError, match="has 3 classes, but only 2 are named"):
        describe_dataset(folder, "mine", ["a", "b"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda labels: labels.unlink(), "expected four gzip-compressed IDX files"),
        (lambda labels: labels.rename(labels.with_name("labels.gz")), "names; there is labels.gz"),
        (lambda labels: labels.write_bytes(b"x"), "not a whole gzip file"),
        (
            lambda labels: write_idx(
                labels.with_name("test-images.gz"), np.zeros((30, 9, 9), "u1")
            ),
            r"training images are \(40, 30\), test images \(9, 9\)",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(folder, spoil, message):
    spoil(folder / "test-labels.gz")
    with pytest.raises(UserError, match=message):
        describe_dataset(folder, "mine")


def test_after_one_command_the_pipeline_runs_on_it(repository, folder):
    command = ("--name", "Bars", "--classes", "left", "middle", "right")
    assert "40x30, 3 classes" in repository.python("tools.dataset", str(folder), *command)
    repository.set("prepare.validation_size=0.25", "train.epochs=5", "model.hidden_units=[8]")
    repository.stages("validate", "fetch", "prepare", "train", "evaluate", "plot")
    data = json.loads(repository.read("metrics/data.json"))
    assert data["name"] == "Bars" and data["images"] == {"train": 90, "validation": 30, "test": 30}
    assert json.loads(repository.read("metrics/test.json"))["accuracy"] == 1
    description = json.loads(repository.read("data/prepared/dataset.json"))
    assert description["class_names"] == ["left", "middle", "right"]
