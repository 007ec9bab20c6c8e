"""Read labelled images from what people have: folders of pictures, CSV tables, .npz archives.

All are made grey and of one size, as `fashion.preprocessing` does it for pictures to predict.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fashion.core.errors import UserError
from fashion.preprocessing import preprocess_image, read_picture

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = ("train", "test")
LISTED = 10  # files in a message
Split = tuple[np.ndarray, np.ndarray]  # images (items, height, width) uint8, labels (items,)


@dataclass(frozen=True)
class Options:
    """How to read a source; each is an option of `python -m tools.dataset`."""

    size: tuple[int, int] | None = None  # height, width
    test_share: float | None = None  # of the images, where the source does not split them
    ground: str = "any"
    skip_unreadable: bool = False


@dataclass(frozen=True)
class LabelledImages:
    """The training and the test split, names of the classes if known, and remarks for the user."""

    splits: dict[str, Split]
    class_names: list[str] | None = None
    remarks: list[str] = field(default_factory=list)


def read_source(source: Path, options: Options) -> LabelledImages:
    """Read a folder of pictures, CSV tables or an .npz archive.

    Raises UserError, naming the file, where it is none of these, or not whole.
    """
    if source.suffix == ".npz":
        return read_npz(source)
    tables = sorted(source.glob("*.csv")) if source.is_dir() else [source]
    if tables and all(path.suffix == ".csv" for path in tables):
        return read_tables(tables, options)
    if source.is_dir():
        return read_tree(source, options)
    what = "neither a folder nor a .csv or .npz file" if source.exists() else "no such folder"
    raise UserError(f"{source}: {what}")


def read_tree(folder: Path, options: Options) -> LabelledImages:
    """Read train/CLASS/* and test/CLASS/*, or CLASS/* of which a share is for the test.

    Order and split depend on names alone, so pictures that are added later change no other's place.
    """
    is_split = all((folder / split).is_dir() for split in SPLITS)
    roots = [folder / split for split in SPLITS] if is_split else [folder]
    paths = [
        path
        for root in roots
        for path in sorted(root.glob("*/**/*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    names = sorted({_class_of(path, roots) for path in paths})
    if len(names) < 2:
        raise UserError(
            f"{folder}: has {len(names)} folders with PNG or JPEG pictures, not two or more"
        )
    parts = {split: [p for p in paths if p.is_relative_to(folder / split)] for split in SPLITS}
    if not is_split:
        parts = _split_by_name(folder, paths, roots, _share(folder, options))
    images, remarks = _decode(paths, options)
    splits = {}
    for split, of_split in parts.items():
        readable = [path for path in of_split if path in images]
        labels = np.array([names.index(_class_of(path, roots)) for path in readable], np.uint8)
        if lacking := [name for label, name in enumerate(names) if label not in labels]:
            raise UserError(f"{folder}: no {split} picture of {', '.join(lacking)}")
        splits[split] = np.stack([images[path] for path in readable]), labels
    return LabelledImages(splits, names, remarks)


def _decode(paths: list[Path], options: Options) -> tuple[dict[Path, np.ndarray], list[str]]:
    """Return the pixels of pictures by path, and remarks.

    Raises UserError with a list of those that can't be read, unless these are to be left out.
    """
    images, colour, failures, size = {}, False, [], options.size
    for path in paths:
        try:
            with path.open("rb") as file:
                picture = read_picture(file, str(path))
                size = size or (picture.height, picture.width)
                images[path], steps = preprocess_image(picture, size, options.ground)
            colour |= "colour to grey" in steps
        except UserError as error:
            failures.append(str(error))
    if failures and not options.skip_unreadable:
        listed = "\n".join(f"  {failure}" for failure in failures[:LISTED])
        more = f"\n  and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
        raise UserError(
            f"{len(failures)} of {len(paths)} pictures can't be read:\n{listed}{more}\n"
            "Remove them, or leave them out by --skip-unreadable"
        )
    remarks = [f"left out, since it can't be read: {failure}" for failure in failures]
    return images, remarks + ["colours are turned to grey"] * colour


def _class_of(path: Path, roots: list[Path]) -> str:
    root = next(root for root in roots if path.is_relative_to(root))
    return path.relative_to(root).parts[0]


def _share(source: Path, options: Options) -> float:
    if not options.test_share:
        raise UserError(
            f"{source}: has no training and test part. --test-share 0.2 takes a fifth for the test"
        )
    return options.test_share


def _split_by_name(
    folder: Path, paths: list[Path], roots: list[Path], share: float
) -> dict[str, list[Path]]:
    """Return the paths by split: of each class, those with the lowest hashes are for the test."""

    def digest(path: Path) -> bytes:
        return hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest()

    test = set()
    for name in {_class_of(path, roots) for path in paths}:
        of_class = sorted((p for p in paths if _class_of(p, roots) == name), key=digest)
        test.update(of_class[: max(1, round(share * len(of_class)))])
    return {
        "train": [path for path in paths if path not in test],
        "test": [path for path in paths if path in test],
    }


def read_tables(paths: list[Path], options: Options) -> LabelledImages:
    """Read CSV files with a column `label` and a column for each pixel, row by row, 0 to 255.

    There are two, with "train" and "test" in their names, or one of which a share is for the test.
    """
    named = {split: [path for path in paths if split in path.name] for split in SPLITS}
    if all(len(found) == 1 for found in named.values()):
        splits = {split: _read_table(found[0], options) for split, found in named.items()}
        return LabelledImages(splits)
    if len(paths) != 1:
        listed = ", ".join(path.name for path in paths)
        raise UserError(f"expected one CSV file, or one with train and one with test; not {listed}")
    images, labels = _read_table(paths[0], options)
    rows = [hashlib.sha256(image).digest() for image in images]
    in_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = sorted(np.flatnonzero(labels == label), key=rows.__getitem__)
        in_test[of_class[: max(1, round(_share(paths[0], options) * len(of_class)))]] = True
    parts = {"train": ~in_test, "test": in_test}
    return LabelledImages({split: (images[one], labels[one]) for split, one in parts.items()})


def _read_table(path: Path, options: Options) -> Split:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    if table.columns[0] != "label" or not len(table):
        raise UserError(f"{path}: the first column is not called label, or there is no row")
    pixels = table.drop(columns="label").to_numpy()
    side = round(pixels.shape[1] ** 0.5)
    height, width = options.size or (side, side)
    if pixels.shape[1] != height * width:
        raise UserError(
            f"{path}: {pixels.shape[1]} pixels are not {height}x{width}; --size HEIGHT WIDTH says"
            " what they are"
        )
    return _checked(path, pixels.reshape(-1, height, width), table["label"].to_numpy())


def read_npz(path: Path) -> LabelledImages:
    """Read an archive with x_train, y_train, x_test and y_test, as Keras' data sets come."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: no such .npz file, or not whole ({error})") from None
    remarks, splits = [], {}
    for split in SPLITS:
        if missing := {f"x_{split}", f"y_{split}"} - arrays.keys():
            raise UserError(f"{path}: has no {', '.join(sorted(missing))}, only {[*arrays]}")
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].reshape(-1)
        if images.ndim != 3 and images.shape[3:] not in ((1,), (3,)):
            raise UserError(f"{path}: x_{split} is {images.shape}, not (items, height, width)")
        if images.ndim == 4 and images.shape[3] == 3:
            remarks = ["colours are turned to grey"]
            images = (images @ np.array([299, 587, 114]) / 1000).round()  # ITU-R BT.601
        splits[split] = _checked(path, images.reshape(images.shape[:3]), labels)
    return LabelledImages(splits, remarks=remarks)


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    """Return both as uint8. Raises UserError where values are no whole numbers from 0 to 255."""
    for kind, values in (("pixels", images), ("labels", labels)):
        if values.dtype.kind not in "uif" or not ((values >= 0) & (values <= 255)).all():
            raise UserError(f"{path}: {kind} are not whole numbers from 0 to 255")
        if (values != np.floor(values)).any():
            raise UserError(f"{path}: {kind} are fractions, expected whole numbers from 0 to 255")
    if len(images) != len(labels):
        raise UserError(f"{path}: {len(images)} images, {len(labels)} labels")
    return images.astype(np.uint8), labels.astype(np.uint8)
