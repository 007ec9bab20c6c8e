"""Read the raw files strictly, keep back a validation split, and describe what is there.

`python -m stages.prepare`, run by `dvc repro`. Images are read and written in pieces, so that
memory does not grow with the data, apart from some bytes an image.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fashion.core.dataset import Dataset, read_dataset, write_description
from fashion.core.errors import UserError
from fashion.core.files import atomic_write, write_json
from fashion.core.params import Params
from fashion.data.idx import PIECE, iterate_idx, read_idx, read_idx_shape
from fashion.data.splits import stratified_split
from fashion.data.statistics import count_duplicates, images_per_class, pixel_mean_and_std
from stages.pipeline import StagePaths, run


def prepare(params: Params, files: StagePaths) -> None:
    dataset = read_dataset(files["dataset.yaml"])
    raw, names = files["raw"], dataset.files
    train_images, test_images = raw / names.train_images.name, raw / names.test_images.name
    labels = read_labels(raw / names.train_labels.name, train_images, dataset)
    test_labels = read_labels(raw / names.test_labels.name, test_images, dataset)
    in_validation = stratified_split(
        labels, params.prepare.validation_size, params.prepare.split_seed
    )
    chosen = {"train": ~in_validation, "validation": in_validation}
    write_splits(files["prepared"], train_images, labels, chosen, dataset)
    everything = {"test": np.ones(len(test_labels), bool)}
    write_splits(files["prepared"], test_images, test_labels, everything, dataset)
    write_description(files["prepared"] / "dataset.json", dataset)

    labels_of = {split: labels[items] for split, items in chosen.items()} | {"test": test_labels}
    mean, std = pixel_mean_and_std(image_pieces(files["prepared"], "train", "validation"))
    write_json(
        files["data.json"],
        {
            "name": dataset.name,
            "images": {split: len(split_labels) for split, split_labels in labels_of.items()},
            "images_per_class": {
                split: images_per_class(split_labels, dataset.class_names)
                for split, split_labels in labels_of.items()
            },
            "pixel_mean": mean,  # of all training images, before the split, scaled to [0, 1]
            "pixel_std": std,
            "test_images_also_in_training": count_duplicates(
                image_pieces(files["prepared"], "test"),
                among=image_pieces(files["prepared"], "train", "validation"),
            ),
        },
    )


def read_labels(path: Path, images: Path, dataset: Dataset) -> np.ndarray:
    """Read labels, (items,) uint8.

    They are checked against the header of their images' file and dataset.yaml.
    """
    count, *_ = read_idx_shape(images, (None, *dataset.image_shape))
    labels = read_idx(path, (None,))
    if len(labels) != count:
        raise UserError(f"{images.name} has {count:,} images, {path.name} {len(labels):,} labels")
    if count == 0:
        raise UserError(f"{path}: is empty")
    classes = len(dataset.class_names)
    if labels.max() >= classes:
        at = int(np.argmax(labels >= classes))
        raise UserError(
            f"{path}: label {at} is {labels[at]}, expected 0 to {classes - 1} (class_names)"
        )
    return labels


def write_splits(
    folder: Path,
    images: Path,
    labels: np.ndarray,
    chosen: dict[str, np.ndarray],
    dataset: Dataset,
) -> None:
    """Write the images and labels of each split as .npy files, uint8, all of them or none.

    `chosen` says by split which of the images are in it, (items,) bool.
    """
    with ExitStack() as stack:
        writers = {}
        for split, items in chosen.items():
            shape = (int(np.count_nonzero(items)), *dataset.image_shape)
            writer = npy_writer(folder / f"{split}_images.npy", shape)
            writers[split] = stack.enter_context(writer)
        start = 0
        for piece in iterate_idx(images, (len(labels), *dataset.image_shape)):
            end = start + len(piece)
            for split, items in chosen.items():
                writers[split].write(piece[items[start:end]])
            start = end
    for split, items in chosen.items():
        with atomic_write(folder / f"{split}_labels.npy") as tmp_path:
            np.save(tmp_path, labels[items], allow_pickle=False)


@contextmanager
def npy_writer(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """Yield a file for the values of a uint8 array of `shape`, which `numpy.load` reads then."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def image_pieces(folder: Path, *splits: str) -> Iterator[np.ndarray]:
    """Yield the images of splits, (up to PIECE, height, width).

    Each is mapped into memory anew: the pages of a map that stays count as this process's.
    """
    for path in [folder / f"{split}_images.npy" for split in splits]:
        for start in range(0, len(np.load(path, mmap_mode="r")), PIECE):
            yield np.load(path, mmap_mode="r")[start : start + PIECE]


if __name__ == "__main__":
    run(prepare)
