"""Write dataset.yaml for your own images: `python -m tools.dataset SOURCE`.

SOURCE is a folder with four IDX files (packed by gzip or not), a folder of pictures
(train/CLASS/* and test/CLASS/*, or CLASS/*), one or two CSV files as Kaggle has them
(label,pixel1,...), or an .npz archive with x_train, y_train, x_test and y_test. What is not IDX is
converted once into four IDX files in data/converted. Then `dvc repro` does the rest.
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
from ruamel.yaml import YAML

from fashion.core.dataset import DATASET, DataFiles, Dataset, Ground
from fashion.core.errors import UserError
from fashion.core.files import atomic_write, sha256
from fashion.core.strict_yaml import check_config
from fashion.data.idx import iterate_idx, read_idx, read_idx_shape, write_idx
from tools.arguments import parser_of, positive_int
from tools.process import command_line
from tools.sources import SPLITS, LabelledImages, Options, read_source

HEADER = """\
# What the data is and where it comes from; `python -m tools.dataset SOURCE` writes this file for
# another data set. Sources are folders and web addresses, tried in this order, after the folder in
# FASHION_MNIST_DIR. Label 0 is the first of the class names. The ground, dark, light or any, is
# what the images lie on; pictures to predict are inverted to it.
"""
CONVERTED = Path("data/converted")
MOSTLY = 0.9  # of the training images, from which a ground is that of the data set


def main() -> None:
    arguments = parse_arguments()
    source, prefix, ground = arguments.source, arguments.prefix, arguments.ground
    files = find_files(source, prefix) if source.is_dir() else {}
    if files and not _begin_with_1(read_labels(files)):
        folder, labelled = source, LabelledImages({})
    else:
        size = tuple(arguments.size) if arguments.size else None
        options = Options(size, arguments.test_share, ground or "any", arguments.skip_unreadable)
        labelled = read_files(files) if files else read_source(source, options)
        folder, prefix = convert(labelled), ""
        ground = ground or ("any" if labelled.class_names else None)  # of pictures
    names = arguments.classes or labelled.class_names
    values = describe_dataset(folder, arguments.name or source.resolve().stem, names, prefix)
    values |= {"ground": ground} if ground else {}
    write_dataset(values)
    for remark in [*labelled.remarks, *remarks_on(values["class_names"])]:
        print(f"Note: {remark}.")
    height, width = values["image_shape"]
    print(
        f"Written: {DATASET}, {values['name']}: {height}x{width}, {len(values['class_names'])}"
        f" classes, {values['ground']} ground."
    )
    if not names:
        print("The classes have numbers for names, which --classes or an editor changes.")
    print("Next: `dvc repro`. params.yaml has the size of the validation split.")


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("dataset", __doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="folder, .csv or .npz file")
    add("--name", help="of the data set, for pictures; default: the source's name")
    add("--classes", metavar="NAME", nargs="+", help="of label 0, 1 and so on")
    add("--prefix", default="", help="of the IDX files, where a folder has several sets")
    size = {"metavar": ("HEIGHT", "WIDTH"), "nargs": 2, "type": positive_int}
    add("--size", **size, help="of the images; default: that of the first picture")
    share = "how much of the images is for the test, where the source does not say"
    add("--test-share", metavar="SHARE", type=_share, help=share)
    ground = "what the images lie on; default: measured, for pictures any"
    add("--ground", choices=get_args(Ground), help=ground)
    add("--skip-unreadable", action="store_true", help="leave out pictures that can't be read")
    return parser.parse_args()


def remarks_on(class_names: list[str]) -> list[str]:
    """Say which letters of the names no font of the pictures has."""
    from fashion.plots.figures import missing_letters  # slow, so only where it is needed

    if not (missing := missing_letters(class_names)):
        return []
    return [
        f"pictures of results can't show {missing}. For Chinese, Japanese and Korean, install the"
        " font Noto Sans CJK and remove matplotlib's list of fonts, ~/.cache/matplotlib"
    ]


def _share(text: str) -> float:
    try:
        if 0 < float(text) < 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1, such as 0.2")


def find_files(folder: Path, prefix: str = "") -> dict[str, Path]:
    """Return the four IDX files in a folder by their role in dataset.yaml; nothing without any.

    They have "train" or "test" or "t10k" in their names. Raises UserError if some are there, and
    not one for each role.
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
            f" labels with test or t10k in their names; there is {', '.join(names)}.{several}"
        )
    return {role: found[role][0] for role in DataFiles.model_fields}


def _role(path: Path) -> str | None:
    """Return a file's role, as "train_images", or None if it is no IDX file by its name."""
    splits = {"train": "train", "test": "test", "t10k": "test"}
    if not path.is_file() or not ("idx" in path.name or path.suffix == ".gz"):
        return None
    kind = {3: "images", 1: "labels"}.get(len(read_idx_shape(path)), "unknown")
    return f"{next((splits[word] for word in splits if word in path.name), 'unknown')}_{kind}"


def read_labels(files: dict[str, Path]) -> list[np.ndarray]:
    """Return the labels (items,) of the training and the test split."""
    return [read_idx(files[f"{split}_labels"], (None,)) for split in SPLITS]


def read_files(files: dict[str, Path]) -> LabelledImages:
    """Return the content of four IDX files, by role."""
    images = [read_idx(files[f"{split}_images"], (None, None, None)) for split in SPLITS]
    pairs = zip(images, read_labels(files), strict=True)
    return LabelledImages(dict(zip(SPLITS, pairs, strict=True)))


def _begin_with_1(labels: list[np.ndarray]) -> bool:
    return all(len(one) and one.min() == 1 for one in labels)


def convert(labelled: LabelledImages) -> Path:
    """Write four IDX files into CONVERTED, which is returned; equal images give equal bytes.

    Labels that begin with 1 begin with 0 after it, and the remarks say so.
    """
    shift = _begin_with_1([labels for _, labels in labelled.splits.values()])
    if shift:
        labelled.remarks.append("labels begin with 1, which is taken from each")
    for split, (images, labels) in labelled.splits.items():
        write_idx(CONVERTED / f"{split}-images-idx3-ubyte", images)
        write_idx(CONVERTED / f"{split}-labels-idx1-ubyte", labels - shift)
    return CONVERTED


def describe_dataset(
    folder: Path, name: str, class_names: list[str] | None = None, prefix: str = ""
) -> dict:
    """Return the content of dataset.yaml for the four IDX files in `folder`.

    Without `class_names`, classes are called "class 0" and so on. Raises UserError if there are not
    two files of images and two of labels, or if they do not belong together.
    """
    if not (files := find_files(folder, prefix)):
        raise UserError(f"{folder}: has no IDX file")
    shape, test_shape = (read_idx_shape(files[f"{one}_images"])[1:] for one in SPLITS)
    if shape != test_shape:
        raise UserError(f"{folder}: training images are {shape}, test images {test_shape}")
    classes = 1 + max(int(labels.max(initial=0)) for labels in read_labels(files))
    if class_names and len(class_names) < classes:
        raise UserError(f"{folder}: has {classes} classes, but only {len(class_names)} are named")
    values = {
        "name": name,
        "image_shape": list(shape),
        "class_names": class_names or [f"class {label}" for label in range(classes)],
        "ground": measure_ground(files["train_images"]),
        "sources": [str(folder)],
        "files": {
            role: {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
            for role, path in files.items()
        },
    }
    check_config(values, str(folder), Dataset)
    return values


def measure_ground(images: Path) -> str:
    """Return "dark" or "light" if nearly all images of a file have such an edge, else "any"."""
    light = []
    for piece in iterate_idx(images, (None, None, None)):
        edges = [piece[:, 0], piece[:, -1], piece[:, :, 0], piece[:, :, -1]]
        light.append(np.median(np.concatenate(edges, axis=1), axis=1) > 127)
    share = float(np.concatenate(light).mean())
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
