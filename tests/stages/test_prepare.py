import json

import numpy as np
import pytest

from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError
from fashion.data.idx import read_idx, write_idx
from stages.prepare import npy_writer, read_labels
from tests.stages.running import run_stage


def prepared(folder, split: str) -> list[np.ndarray]:
    """Return the images and labels of a split."""
    return [np.load(folder / f"data/prepared/{split}_{part}.npy") for part in ("images", "labels")]


def raw(folder, split: str) -> list[np.ndarray]:
    """Return the images and labels of the raw files, "train" or "test"."""
    files = read_dataset(folder / "dataset.yaml").files
    names = [getattr(files, f"{split}_{part}").name for part in ("images", "labels")]
    images, labels = (folder / "data/raw" / name for name in names)
    return [read_idx(images, (None, 28, 28)), read_idx(labels, (None,))]


def test_prepared_images_are_the_raw_ones_each_once_with_its_label(built):
    pairs = [prepared(built, split) for split in ("train", "validation")]
    assert all(array.dtype == np.uint8 for pair in pairs for array in pair)

    def items(pair):
        return [(image.tobytes(), label) for image, label in zip(*pair, strict=True)]

    assert sorted(items(pairs[0]) + items(pairs[1])) == sorted(items(raw(built, "train")))
    assert np.bincount(pairs[1][1]).tolist() == [20] * 10  # every class in proportion
    for ours, original in zip(prepared(built, "test"), raw(built, "test"), strict=True):
        np.testing.assert_array_equal(ours, original)  # in order


def test_data_json_describes_the_data(built):
    described = json.loads((built / "metrics/data.json").read_bytes())
    images, _ = raw(built, "train")
    assert described["name"] == read_dataset(built / "dataset.yaml").name
    assert described["images"] == {"train": 1000, "validation": 200, "test": 400}
    counts = {split: set(found.values()) for split, found in described["images_per_class"].items()}
    assert counts == {"train": {100}, "validation": {20}, "test": {40}}
    assert described["images_per_class"]["test"]["vertical bars"] == 40
    assert described["pixel_mean"] == pytest.approx((images / 255).mean(), abs=1e-6)
    assert described["pixel_std"] == pytest.approx((images / 255).std(), abs=1e-6)
    assert described["test_images_also_in_training"] == 0


def test_duplicates_are_counted_in_training_and_validation_and_the_seed_chooses_the_split(
    repository,
):
    folder, before = repository.folder, prepared(repository.folder, "validation")[0]
    images, _ = raw(folder, "test")
    images[0] = prepared(folder, "train")[0][0]
    images[[1, 2]] = before[-1]
    write_idx(
        folder / "data/raw" / read_dataset(folder / "dataset.yaml").files.test_images.name, images
    )
    assert run_stage(folder, "prepare") == ""
    described = json.loads(repository.read("metrics/data.json"))
    assert described["test_images_also_in_training"] == 3
    repository.set("prepare.split_seed=7")
    assert run_stage(folder, "prepare") == ""
    assert not np.array_equal(prepared(folder, "validation")[0], before)
    repository.set("prepare.validation_size=1200")
    message = "prepare: prepare.validation_size: 1200 of 1200 images can't be split"
    assert run_stage(folder, "prepare").startswith(message)


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((3, 28, 28), [0, 1], r"images\.gz has 3 images, labels\.gz 2 labels"),
        ((3, 28, 28), [9, 10, 0], "label 1 is 10, expected 0 to 9"),
        ((1, 28, 27), [0], "dimensions are 1 x 28 x 27, expected any x 28 x 28"),
        ((0, 28, 28), [], "is empty"),
    ],
)
def test_labels_that_do_not_fit_the_images_are_refused(built, tmp_path, shape, labels, message):
    write_idx(tmp_path / "images.gz", np.zeros(shape, np.uint8))
    write_idx(tmp_path / "labels.gz", np.array(labels, np.uint8))
    dataset = read_dataset(built / "dataset.yaml")
    with pytest.raises(UserError, match=message):
        read_labels(tmp_path / "labels.gz", tmp_path / "images.gz", dataset)


def test_an_array_that_is_not_whole_leaves_the_old_file(tmp_path):
    (tmp_path / "a.npy").write_text("old")
    with pytest.raises(UserError), npy_writer(tmp_path / "a.npy", (2,)):
        raise UserError("the raw file ends here")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.npy": "old"}
