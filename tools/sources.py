"""Read labelled images from folders of pictures, CSV tables and .npz archives.

Pictures become grey and of one size, as `fashion.preprocessing` does it for pictures to predict.
"""

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fashion.core.dataset import Description
from fashion.core.errors import UserError
from fashion.preprocessing import preprocess_image, read_picture

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = ("train", "test")
COLOUR_LOST = "Note: colours become grey."
Split = tuple[np.ndarray, np.ndarray]  # images (items, height, width) and labels (items,), uint8


def read_source(source: Path, options: Namespace) -> tuple[dict[str, Split], list[str] | None]:
    """Read a folder of pictures, CSV tables or an .npz archive.

    `options` are the arguments of `python -m tools.dataset`. Returns the training and the test
    split, and the class names if the source has them. Raises UserError, naming the file, if the
    source is anything else or is corrupted.
    """
    if source.suffix == ".npz":
        return read_npz(source), None
    tables = sorted(source.glob("*.csv")) if source.is_dir() else [source]
    if tables and all(path.suffix == ".csv" for path in tables):
        return read_tables(tables, options), None
    if source.is_dir():
        return read_tree(source, options)
    what = "neither a folder nor a .csv or .npz file" if source.exists() else "no such folder"
    raise UserError(f"{source}: {what}")


def read_tree(folder: Path, options: Namespace) -> tuple[dict[str, Split], list[str]]:
    """Read train/CLASS/* and test/CLASS/*, or CLASS/* of which a share is for the test.

    Order and split depend on names alone, so new pictures do not move the others.
    """
    is_split = all((folder / split).is_dir() for split in SPLITS)
    roots = [folder / split for split in SPLITS] if is_split else [folder]
    files = {
        path: path.relative_to(root).parts[0]
        for root in roots
        for path in sorted(root.glob("*/**/*"))
        if path.is_file()
    }
    classes = {path: name for path, name in files.items() if path.suffix.lower() in SUFFIXES}
    names = sorted({*classes.values()})
    if not 2 <= len(names) <= 256:
        raise UserError(
            f"{folder}: has {len(names)} folders with PNG or JPEG pictures, not 2 to 256. IDX files"
            " have idx or .gz in their names"
        )
    if others := files.keys() - classes.keys():
        kinds = ", ".join(sorted({path.suffix or path.name for path in others}))
        print(f"Note: files left out, as only PNG and JPEG are read: {len(others)} ({kinds}).")
    labels = np.array([names.index(name) for name in classes.values()], np.uint8)
    if is_split:
        in_test = np.array([path.is_relative_to(roots[1]) for path in classes])
    else:
        keys = [path.relative_to(folder).as_posix().encode() for path in classes]
        in_test = choose_test(folder, keys, labels, options)
    images = _decode([*classes], options)
    splits = {}
    for split, chosen in zip(SPLITS, (~in_test, in_test), strict=True):
        items = [i for i in np.flatnonzero(chosen) if images[i] is not None]
        if lacking := [name for label, name in enumerate(names) if label not in labels[items]]:
            raise UserError(f"{folder}: no {split} picture of {', '.join(lacking)}")
        splits[split] = np.stack([images[i] for i in items]), labels[items]
    return splits, names


def choose_test(
    source: Path, keys: Sequence[bytes], labels: np.ndarray, options: Namespace
) -> np.ndarray:
    """Return which items are for the test: those of each class whose keys have the lowest hashes.

    Raises UserError if the options give no share between 0 and 1.
    """
    if not 0 < (options.test_share or 0) < 1:
        raise UserError(
            f"{source}: has no training and test part. --test-share 0.2 takes a fifth for the test"
        )
    hashes = np.array([hashlib.sha256(key).hexdigest() for key in keys])
    in_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        items = np.flatnonzero(labels == label)
        items = items[np.argsort(hashes[items], kind="stable")]
        in_test[items[: max(1, round(options.test_share * len(items)))]] = True
    return in_test


def _decode(paths: list[Path], options: Namespace) -> list[np.ndarray | None]:
    """Return the pixels of each picture, None for those that are left out.

    Raises UserError listing the pictures that can't be read, unless the options leave them out.
    """
    images, is_colour, failures, size = [], False, [], options.size
    settings = {"ground": options.ground or "any", "fit": options.fit}
    settings["transparency"] = options.transparency
    for path in paths:
        try:
            with path.open("rb") as file:
                picture = read_picture(file, str(path))
                size = size or (picture.height, picture.width)
                target = Description.model_construct(image_shape=size, **settings)
                pixels, steps = preprocess_image(picture, target)
            images.append(pixels)
            is_colour |= "colour to grey" in steps
        except UserError as error:
            images.append(None)
            failures.append(str(error))
    if failures and not options.skip_unreadable:
        listed = "\n".join(f"  {failure}" for failure in failures)
        raise UserError(
            f"{len(failures)} of {len(paths)} pictures can't be read:\n{listed}\n"
            "Remove them, or leave them out with --skip-unreadable"
        )
    for failure in failures:
        print(f"Note: left out: {failure}.")
    if is_colour:
        print(COLOUR_LOST)
    return images


def read_tables(paths: list[Path], options: Namespace) -> dict[str, Split]:
    """Read CSV files: a column `label`, then a column for each pixel, 0 to 255, row by row.

    Of two files, one has "train" and one "test" in its name. Of a single file, a share is for the
    test.
    """
    named = {split: [path for path in paths if split in path.name] for split in SPLITS}
    if all(len(found) == 1 for found in named.values()):
        return {split: _read_table(found[0], options) for split, found in named.items()}
    if len(paths) != 1:
        listed = ", ".join(path.name for path in paths)
        raise UserError(f"expected one CSV file, or one with train and one with test; not {listed}")
    images, labels = _read_table(paths[0], options)
    in_test = choose_test(paths[0], [image.tobytes() for image in images], labels, options)
    parts = zip(SPLITS, (~in_test, in_test), strict=True)
    return {split: (images[chosen], labels[chosen]) for split, chosen in parts}


def _read_table(path: Path, options: Namespace) -> Split:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    if table.columns[0] != "label" or table.empty:
        raise UserError(
            f"{path}: the first column is not called label, or the table has no row. If test images"
            " have no labels, name the training file, with --test-share 0.2"
        )
    pixels = table.drop(columns="label").to_numpy()
    side = round(pixels.shape[1] ** 0.5)
    height, width = options.size or (side, side)
    if pixels.shape[1] != height * width:
        raise UserError(
            f"{path}: {pixels.shape[1]} pixels are not {height}x{width}. Give the size with --size"
            " HEIGHT WIDTH"
        )
    return _checked(path, pixels.reshape(-1, height, width), table["label"].to_numpy())


def read_npz(path: Path) -> dict[str, Split]:
    """Read an archive with x_train, y_train, x_test and y_test, as Keras' data sets have them."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # a corrupted archive may raise anything
        raise UserError(f"{path}: missing, or no complete .npz file ({error})") from None
    splits, is_colour = {}, False
    for split in SPLITS:
        if missing := {f"x_{split}", f"y_{split}"} - arrays.keys():
            raise UserError(f"{path}: has no {', '.join(sorted(missing))}, only {[*arrays]}")
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].reshape(-1)
        if images.ndim != 3 and images.shape[3:] not in ((1,), (3,)):
            raise UserError(f"{path}: x_{split} is {images.shape}, not (items, height, width)")
        if images.shape[3:] == (3,):
            is_colour = True
            images = (images @ np.array([299, 587, 114]) / 1000).round()  # ITU-R BT.601
        splits[split] = _checked(path, images.reshape(images.shape[:3]), labels)
    if is_colour:
        print(COLOUR_LOST)
    return splits


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    """Return both as uint8. Raises UserError if a value is no whole number from 0 to 255."""
    for kind, values in (("pixels", images), ("labels", labels)):
        if values.dtype.kind not in "uif" or not np.isin(values, np.arange(256)).all():
            raise UserError(f"{path}: {kind} are not whole numbers from 0 to 255")
    if len(images) != len(labels):
        raise UserError(f"{path}: {len(images)} images, {len(labels)} labels")
    return images.astype(np.uint8), labels.astype(np.uint8)
