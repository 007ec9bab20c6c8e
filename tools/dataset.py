"""Write dataset.yaml for your own images: `python -m tools.dataset SOURCE`.

SOURCE is a folder with four IDX files (packed by gzip or not), a folder of pictures
(train/CLASS/* and test/CLASS/*, or CLASS/*), one or two CSV files as Kaggle has them
(label,pixel1,...), or an .npz archive with x_train, y_train, x_test and y_test. What is not IDX is
converted once into four IDX files in data/converted. Then `dvc repro` does the rest.
"""

import argparse
import hashlib
from pathlib import Path
from typing import get_args

import numpy as np
from ruamel.yaml import YAML

from fashion.core.dataset import DATASET, DataFiles, Dataset, Fit, Ground, Transparency
from fashion.core.errors import UserError
from fashion.core.files import atomic_write, sha256
from fashion.core.strict_yaml import check_config
from fashion.data.idx import read_idx, read_idx_shape, write_idx
from tools.arguments import parser_of, positive_int
from tools.process import command_line
from tools.sources import SPLITS, Split, is_split, read_source

HEADER = """\
# What the data is and where it comes from; `python -m tools.dataset SOURCE` writes this file for
# another data set. Sources are folders and web addresses, tried in this order, after the folders in
# the variables DATA_DIR and FASHION_MNIST_DIR. Label 0 is the first of the class names. The ground
# is the background of the images: dark, light or, if it varies, any. Pictures to predict are
# inverted to match it. The fit says whether other proportions are padded (pad, the default),
# cropped (crop) or stretched (stretch), and the transparency whether transparent pixels become
# white (the default) or black.
"""
RAW, CONVERTED = Path("data/raw"), Path("data/converted")
CLASS = "class {}"  # the name of a class without one
MOSTLY = 0.9  # the share of training images from which their ground is that of the data set


def main() -> None:
    arguments = parse_arguments()
    folder, prefix, names = arguments.source, arguments.prefix, None
    files = find_files(folder, prefix) if folder.is_dir() else {}
    check_arguments(arguments, files)
    if files:
        splits = read_files(files)
    else:
        splits, names = read_source(folder, arguments)
    if names and sorted(arguments.classes or []) == names != arguments.classes:
        raise UserError(f"--classes: the folders name the classes, in this order: {names}")
    if not files or begin_with_1(splits):
        folder, prefix = convert(splits), ""
    title = arguments.name or arguments.source.resolve().stem
    values = describe_dataset(folder, title, arguments.classes or names, prefix)
    if arguments.ground or names:  # names come with folders of pictures, which stay as they are
        values["ground"] = arguments.ground or "any"
    values |= {"fit": arguments.fit, "transparency": arguments.transparency}
    write_dataset(values)
    print_summary(values)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("dataset", __doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="folder, .csv or .npz file")
    add("--name", help="of the data set, for plots; default: the source's name")
    add("--classes", metavar="NAME", nargs="+", help="of label 0, 1 and so on")
    add("--prefix", default="", help="of the IDX files, where a folder has several sets")
    size = {"metavar": ("HEIGHT", "WIDTH"), "nargs": 2, "type": positive_int}
    add("--size", **size, help="of pictures and CSV rows; default: of the first one, or a square")
    share = "of the images for the test, where the source does not split them"
    add("--test-share", metavar="SHARE", type=float, help=share)
    ground = "the background of the images; default: measured, for folders of pictures any"
    add("--ground", choices=get_args(Ground), help=ground)
    fit = "pictures of other proportions: add a margin, cut or stretch; default: pad"
    add("--fit", choices=get_args(Fit), default="pad", help=fit)
    transparency = "what transparent pixels become; default: white"
    add("--transparency", choices=get_args(Transparency), default="white", help=transparency)
    add("--skip-unreadable", action="store_true", help="leave out pictures that can't be read")
    return parser.parse_args()


def check_arguments(arguments: argparse.Namespace, files: dict[str, Path]) -> None:
    """Raise UserError if the source can't be used, or if options do not apply to it."""
    source = arguments.source
    if source.resolve().is_relative_to(RAW.resolve()):
        raise UserError(f"{source}: `dvc repro` empties {RAW}. Move the files to another folder")
    if arguments.prefix and not files:
        raise UserError(f"{source}: no IDX file begins with {arguments.prefix}")
    has_size = bool(files) or source.suffix == ".npz"
    if has_size and arguments.size:
        raise UserError(f"{source}: the images have a size, so leave out --size")
    if (has_size or is_split(source)) and arguments.test_share:
        raise UserError(f"{source}: has images for the test, so leave out --test-share")


def print_summary(values: dict) -> None:
    """Print what dataset.yaml says now, and what to do next."""
    from fashion.plots.figures import missing_letters  # slow, so only where it is needed

    class_names, (height, width) = values["class_names"], values["image_shape"]
    if missing := missing_letters(class_names):
        print(
            f"Note: plots can't show {missing}. For Chinese, Japanese and Korean, install the font"
            " Noto Sans CJK and remove matplotlib's list of fonts, ~/.cache/matplotlib."
        )
    print(
        f"Written: {DATASET}, {values['name']}: {height}x{width}, {len(class_names)} classes,"
        f" {values['ground']} ground."
    )
    if class_names[0] == CLASS.format(0):
        print("The classes are named by number. --classes or an editor changes that.")
    print("Next: `dvc repro`. params.yaml has the size of the validation split.")


def find_files(folder: Path, prefix: str = "") -> dict[str, Path]:
    """Return the four IDX files in a folder by their role in dataset.yaml, or none without any.

    They have "train" or "test" or "t10k" in their names. Raises UserError if the folder has some
    IDX files, but not one for each role.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"{prefix}*")):
        if role := _role(path):
            found.setdefault(role, []).append(path)
    if not found:
        return {}
    names = [path.name for paths in found.values() for path in paths]
    if found.keys() != DataFiles.model_fields.keys() or len(names) > 4:
        several = " --prefix chooses one of several sets." if len(names) > 4 else ""
        raise UserError(
            f"{folder}: expected four IDX files, images and labels with train, and images and"
            f" labels with test or t10k in their names; found {', '.join(names)}.{several}"
        )
    return {role: found[role][0] for role in DataFiles.model_fields}


def _role(path: Path) -> str | None:
    """Return a file's role, such as "train_images", or None if its name is not that of IDX."""
    splits = {"train": "train", "test": "test", "t10k": "test"}
    is_idx = "idx" in path.name or (path.suffix == ".gz" and ".tar" not in path.suffixes)
    if not path.is_file() or not is_idx:
        return None
    kind = {3: "images", 1: "labels"}.get(len(read_idx_shape(path)), "unknown")
    return f"{next((splits[word] for word in splits if word in path.name), 'unknown')}_{kind}"


def read_files(files: dict[str, Path]) -> dict[str, Split]:
    """Return the training and the test split in four IDX files, given by role.

    Raises UserError if a split has no images, or not as many labels.
    """
    splits = {}
    for split in SPLITS:
        path = files[f"{split}_images"]
        images = read_idx(path, (None, None, None))
        labels = read_idx(files[f"{split}_labels"], (None,))
        if len(images) != len(labels) or not len(images):
            raise UserError(f"{path}: has {len(images):,} images for {len(labels):,} labels")
        splits[split] = images, labels
    return splits


def begin_with_1(splits: dict[str, Split]) -> bool:
    """Return whether the lowest label of each split is 1."""
    return all(labels.min(initial=255) == 1 for _, labels in splits.values())


def convert(splits: dict[str, Split]) -> Path:
    """Write four IDX files into a folder in CONVERTED and return it.

    Other data goes into another folder, so that commits with an earlier version can be rebuilt.
    Labels that begin with 1 are shifted to begin with 0, and a note is printed.
    """
    if shift := begin_with_1(splits):
        print("Note: labels begin with 1, so 1 is subtracted from each.")
    version = hashlib.sha256()
    for images, labels in splits.values():
        version.update(str(images.shape).encode() + images.tobytes() + labels.tobytes())
    folder = CONVERTED / version.hexdigest()[:8]
    for split, (images, labels) in splits.items():
        write_idx(folder / f"{split}-images-idx3-ubyte", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte", labels - shift)
    return folder


def describe_dataset(
    folder: Path, name: str, class_names: list[str] | None = None, prefix: str = ""
) -> dict:
    """Return the content of dataset.yaml for the four IDX files in `folder`.

    Without `class_names`, classes are called "class 0" and so on. Raises UserError if the files do
    not belong together.
    """
    files = find_files(folder, prefix)
    (images, labels), (test_images, test_labels) = read_files(files).values()
    shape, test_shape = images.shape[1:], test_images.shape[1:]
    if shape != test_shape:
        raise UserError(f"{folder}: training images are {shape}, test images {test_shape}")
    classes = 1 + max(int(split.max(initial=0)) for split in (labels, test_labels))
    if class_names and len(class_names) < classes:
        raise UserError(f"{folder}: has {classes} classes, but only {len(class_names)} are named")
    values = {
        "name": name,
        "image_shape": list(shape),
        "class_names": class_names or [CLASS.format(label) for label in range(classes)],
        "ground": measure_ground(images),
        "fit": "pad",
        "transparency": "white",
        "sources": [str(folder)],
        "files": {
            role: {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
            for role, path in files.items()
        },
    }
    check_config(values, str(folder), Dataset)
    return values


def measure_ground(images: np.ndarray) -> str:
    """Return "dark" or "light" if the edges of nearly all images are, else "any"."""
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    share = (np.median(np.concatenate(edges, axis=1), axis=1) > 127).mean()
    return "light" if share >= MOSTLY else "dark" if share <= 1 - MOSTLY else "any"


def write_dataset(values: dict, path: Path = DATASET) -> None:
    """Write the content of dataset.yaml, with a comment that explains it."""
    yaml = YAML()
    yaml.width = 1000
    with atomic_write(path) as tmp_path, tmp_path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        yaml.dump(values, file)


if __name__ == "__main__":
    with command_line("dataset"):
        main()
