"""Read the raw files strictly, keep back a validation split, and describe the data.

`python -m stages.prepare`, run by `dvc repro`. Images are read and written in pieces, so memory
grows by only a few bytes per image.
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
from stages import StagePaths, run


def prepare(params: Params, files: StagePaths) -> None:
    """Write the arrays of the three splits, and the description of the data."""
    dataset = read_dataset(files["dataset.yaml"])
    raw, prepared, names = files["raw"], files["prepared"], dataset.files
    train_images, test_images = raw / names.train_images.name, raw / names.test_images.name
    labels = read_labels(raw / names.train_labels.name, train_images, dataset)
    test_labels = read_labels(raw / names.test_labels.name, test_images, dataset)
    in_validation = stratified_split(
        labels, params.prepare.validation_size, params.prepare.split_seed
    )
    chosen = {"train": ~in_validation, "validation": in_validation}
    write_splits(prepared, train_images, labels, chosen)
    write_splits(prepared, test_images, test_labels, {"test": np.ones(len(test_labels), bool)})
    write_description(prepared / "dataset.json", dataset)
    write_json(files["data.json"], describe(prepared, dataset))


def read_labels(path: Path, images: Path, dataset: Dataset) -> np.ndarray:
    """Read labels, (items,) uint8. Raises UserError if they do not fit the images or classes."""
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
    folder: Path, images: Path, labels: np.ndarray, chosen: dict[str, np.ndarray]
) -> None:
    """Write the images and labels of splits as .npy files, uint8.

    `chosen` maps each split to its items, (items,) bool.
    """
    with ExitStack() as stack:
        shape, writers, start = read_idx_shape(images)[1:], {}, 0
        for split, items in chosen.items():
            writer = npy_writer(folder / f"{split}_images.npy", (int(items.sum()), *shape))
            writers[split] = stack.enter_context(writer)
        for piece in iterate_idx(images, (len(labels), *shape)):
            end = start + len(piece)
            for split, items in chosen.items():
                writers[split].write(piece[items[start:end]])
            start = end
    for split, items in chosen.items():
        with atomic_write(folder / f"{split}_labels.npy") as tmp_path:
            np.save(tmp_path, labels[items], allow_pickle=False)


@contextmanager
def npy_writer(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """Yield an .npy file, to which the caller writes the values of a uint8 array of `shape`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def describe(folder: Path, dataset: Dataset) -> dict:
    """Return the content of metrics/data.json: counts and statistics of the prepared data."""
    labels = {
        split: np.load(folder / f"{split}_labels.npy") for split in ("train", "validation", "test")
    }
    mean, std = pixel_mean_and_std(image_pieces(folder, "train", "validation"))
    return {
        "name": dataset.name,
        "images": {split: len(values) for split, values in labels.items()},
        "images_per_class": {
            split: images_per_class(values, dataset.class_names) for split, values in labels.items()
        },
        "pixel_mean": mean,  # of all training images, before the split, scaled to [0, 1]
        "pixel_std": std,
        "test_images_also_in_training": count_duplicates(
            image_pieces(folder, "test"), among=image_pieces(folder, "train", "validation")
        ),
    }


def image_pieces(folder: Path, *splits: str) -> Iterator[np.ndarray]:
    """Yield the images of splits in pieces, (at most PIECE, height, width) uint8.

    Each piece is mapped separately, since the pages of a map count as used memory.
    """
    for path in [folder / f"{split}_images.npy" for split in splits]:
        for start in range(0, len(np.load(path, mmap_mode="r")), PIECE):
            yield np.load(path, mmap_mode="r")[start : start + PIECE]


if __name__ == "__main__":
    run(prepare)
