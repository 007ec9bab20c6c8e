"""Read labelled images from folders of pictures, CSV tables and .npz archives.

Pictures become grey and of one size, as `fashion.preprocessing` does it for pictures to predict.
"""

import hashlib
import os
import re
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fashion.core.dataset import Description
from fashion.core.errors import UserError
from fashion.preprocessing import preprocess_image, read_picture, turn_upright

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = ("train", "test")
SPLIT_LIKE = re.compile("(train|test)(ing)?|val(id|idation)?|dev", re.IGNORECASE)
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
    if not is_split(source) and tables and all(path.suffix == ".csv" for path in tables):
        return read_tables(tables, options), None
    if source.is_dir():
        return read_tree(source, options)
    what = "neither a folder nor a .csv or .npz file" if source.exists() else "no such folder"
    raise UserError(f"{source}: {what}")


def is_split(folder: Path) -> bool:
    """Return whether a folder has one for each split."""
    return all((folder / split).is_dir() for split in SPLITS)


def is_hidden(path: Path, folder: Path) -> bool:
    """Return whether programs keep a file in a folder for themselves."""
    return any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)


def read_tree(folder: Path, options: Namespace) -> tuple[dict[str, Split], list[str]]:
    """Read train/CLASS/* and test/CLASS/*, or CLASS/* of which a share is for the test.

    Order and split depend on names alone, so new pictures do not move the others.
    """
    roots = [folder / split for split in SPLITS] if is_split(folder) else [folder]
    classes = {  # of each picture
        path: path.relative_to(root).parts[0]
        for root in roots
        for path in sorted(root.glob("*/**/*"))
        if path.suffix.lower() in SUFFIXES and path.is_file() and not is_hidden(path, folder)
    }
    names = sorted({*classes.values()})
    if names and all(SPLIT_LIKE.fullmatch(name) for name in names):
        raise UserError(
            f"{folder}: {', '.join(names)} look like splits. Call the two folders train and test"
        )
    if not 2 <= len(names) <= 256:
        raise UserError(
            f"{folder}: has {len(names)} folders with PNG or JPEG pictures, not 2 to 256. IDX files"
            " have idx or .gz in their names"
        )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if others := [one for one in files if one not in classes and not is_hidden(one, folder)]:
        first = others[0].relative_to(folder)
        print(f"Note: files not used: {len(others)}, such as {first}. PNG and JPEG of classes are.")
    labels = np.array([names.index(name) for name in classes.values()], np.uint8)
    if is_split(folder):
        in_test = np.array([path.is_relative_to(roots[1]) for path in classes])
    else:
        keys = [os.fsencode(path.relative_to(folder).as_posix()) for path in classes]
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
    images, done, failures, size = [], Counter(), [], options.size
    settings = {"ground": options.ground or "any", "fit": options.fit}
    settings["transparency"] = options.transparency
    for path in paths:
        try:
            with path.open("rb") as file:
                picture = read_picture(file, str(path))
                if not size:
                    upright, _ = turn_upright(picture)
                    size = upright.height, upright.width
                target = Description.model_construct(image_shape=size, **settings)
                pixels, steps = preprocess_image(picture, target, may_keep=not options.ground)
            images.append(pixels)
            done.update(step for step in steps if not step[0].isdigit())  # not each size
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
    for step, times in done.items():
        print(f"Note: {step}: {times} of {len(paths)} pictures.")
    return images


def read_tables(paths: list[Path], options: Namespace) -> dict[str, Split]:
    """Read CSV files: a column `label`, then a column for each pixel, 0 to 255, row by row.

    Of two files, one has "train" and one "test" in its name. Of a single file, a share is for the
    test.
    """
    named = {split: [path for path in paths if split in path.name] for split in SPLITS}
    if all(len(found) == 1 for found in named.values()):
        if options.test_share:
            raise UserError(f"{named['test'][0]}: is for the test, so leave out --test-share")
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
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, index_col=False)  # or it takes labels for names of rows
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise UserError(f"{path}: {error}") from None
    if table.columns[0] != "label" or table.empty:
        raise UserError(
            f"{path}: the first column is not called label, or the table has no row. Columns are"
            " label,pixel1,... with commas. If test images have no labels, name the training file,"
            " with --test-share 0.2"
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
            images, labels = _checked(path, images, labels)
            images = (images @ np.array([299, 587, 114]) / 1000).round()  # ITU-R BT.601
        splits[split] = _checked(path, images.reshape(images.shape[:3]), labels)
    if is_colour:
        print("Note: colours become grey.")
    return splits


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    """Return both as uint8. Raises UserError if a value is no whole number from 0 to 255."""
    for kind, values in (("pixels", images), ("labels", labels)):
        if values.dtype.kind not in "uif" or not np.isin(values, np.arange(256)).all():
            raise UserError(f"{path}: {kind} are not whole numbers from 0 to 255")
    if len(images) != len(labels):
        raise UserError(f"{path}: {len(images)} images, {len(labels)} labels")
    if not images.size:
        raise UserError(f"{path}: has no pixels in {images.shape}")
    return images.astype(np.uint8), labels.astype(np.uint8)
