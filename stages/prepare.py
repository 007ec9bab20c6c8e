"""Read the raw files strictly, keep back a validation split, and describe what is there.

`python -m stages.prepare`, run by `dvc repro`.
"""

from pathlib import Path

import numpy as np

from fashion.dataset_stats import count_duplicates, images_per_class, pixel_mean_and_std
from fashion.errors import UserError
from fashion.files import atomic_write, write_json
from fashion.idx import read_idx
from fashion.splits import stratified_split
from stages.dataset import Dataset, read_dataset, write_description
from stages.params import Params
from stages.pipeline import StagePaths, run


def prepare(params: Params, files: StagePaths) -> None:
    dataset = read_dataset(files["dataset.yaml"])
    raw, names = files["raw"], dataset.files
    images, labels = read_pair(
        raw / names.train_images.name, raw / names.train_labels.name, dataset
    )
    test_images, test_labels = read_pair(
        raw / names.test_images.name, raw / names.test_labels.name, dataset
    )
    train, validation = stratified_split(
        labels, params.prepare.validation_size, params.prepare.split_seed
    )
    splits = {
        "train": (images[train], labels[train]),
        "validation": (images[validation], labels[validation]),
        "test": (test_images, test_labels),
    }
    for split, (split_images, split_labels) in splits.items():
        save_array(files["prepared"] / f"{split}_images.npy", split_images)
        save_array(files["prepared"] / f"{split}_labels.npy", split_labels)
    write_description(files["prepared"] / "dataset.json", dataset)

    mean, std = pixel_mean_and_std(images)
    class_names = dataset.class_names
    write_json(
        files["data.json"],
        {
            "name": dataset.name,
            "images": {split: len(split_labels) for split, (_, split_labels) in splits.items()},
            "images_per_class": {
                split: images_per_class(pair[1], class_names) for split, pair in splits.items()
            },
            "pixel_mean": mean,  # of all training images, before the split, scaled to [0, 1]
            "pixel_std": std,
            "test_images_also_in_training": count_duplicates(test_images, among=images),
        },
    )


def read_pair(
    images_path: Path, labels_path: Path, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """Read images (items, height, width) and labels (items,), uint8.

    They are checked against each other and dataset.yaml.
    """
    images = read_idx(images_path, (None, *dataset.image_shape))
    labels = read_idx(labels_path, (None,))
    if len(images) != len(labels):
        raise UserError(
            f"{images_path.name} has {len(images):,} images,"
            f" {labels_path.name} {len(labels):,} labels"
        )
    if len(labels) == 0:
        raise UserError(f"{labels_path}: is empty")
    classes = len(dataset.class_names)
    if labels.max() >= classes:
        at = int(np.argmax(labels >= classes))
        raise UserError(
            f"{labels_path}: label {at} is {labels[at]}, expected 0 to {classes - 1} (class_names)"
        )
    return images, labels


def save_array(path: Path, values: np.ndarray) -> None:
    with atomic_write(path) as tmp_path:
        np.save(tmp_path, values, allow_pickle=False)


if __name__ == "__main__":
    run(prepare)
