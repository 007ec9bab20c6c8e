"""Write dataset.yaml for a folder with your own four IDX files: `python -m tools.dataset FOLDER`.

The folder has gzip-compressed IDX files of uint8 images (items, height, width) and labels
(items,), "train" in the names of two of them and "test" or "t10k" in those of the others;
`fashion.data.idx.write_idx` writes such files from NumPy arrays. Sizes, SHA-256, image shape and
number of classes are read from them. Then `dvc repro` does the rest.
"""

from pathlib import Path

from ruamel.yaml import YAML

from fashion.core.dataset import DATASET, DataFiles, Dataset
from fashion.core.errors import UserError
from fashion.core.files import atomic_write, sha256
from fashion.core.strict_yaml import check_config
from fashion.data.idx import read_idx, read_idx_shape
from tools.arguments import parser_of
from tools.process import command_line

HEADER = """\
# What the data is and where it comes from; `python -m tools.dataset FOLDER` writes this file for
# another data set. Sources are folders and web addresses, tried in this order, after the folder in
# FASHION_MNIST_DIR. Label 0 is the first of the class names.
"""


def main() -> None:
    parser = parser_of("dataset", __doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--name", help="of the data set, for pictures; default: the folder's name")
    parser.add_argument("--classes", metavar="NAME", nargs="+", help="of label 0, 1 and so on")
    arguments = parser.parse_args()
    name = arguments.name or arguments.folder.resolve().name
    values = describe_dataset(arguments.folder, name, arguments.classes)
    write_dataset(values)
    height, width = values["image_shape"]
    print(f"Written: {DATASET}, {name}: {height}x{width}, {len(values['class_names'])} classes.")
    if not arguments.classes:
        print("The classes have numbers for names, which --classes or an editor changes.")
    print("Next: `dvc repro`. params.yaml has the size of the validation split.")


def describe_dataset(folder: Path, name: str, class_names: list[str] | None = None) -> dict:
    """Return the content of dataset.yaml for the four files in `folder`.

    Without `class_names`, classes are called "class 0" and so on. Raises UserError if there are not
    two files of images and two of labels, or if they do not belong together.
    """
    files = find_files(folder)
    shape, test_shape = (read_idx_shape(files[f"{one}_images"])[1:] for one in ("train", "test"))
    if shape != test_shape:
        raise UserError(f"{folder}: training images are {shape}, test images {test_shape}")
    splits = (read_idx(files[f"{split}_labels"], (None,)) for split in ("train", "test"))
    classes = 1 + max(int(labels.max(initial=0)) for labels in splits)
    if class_names and len(class_names) < classes:
        raise UserError(f"{folder}: has {classes} classes, but only {len(class_names)} are named")
    values = {
        "name": name,
        "image_shape": list(shape),
        "class_names": class_names or [f"class {label}" for label in range(classes)],
        "sources": [str(folder)],
        "files": {
            role: {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
            for role, path in files.items()
        },
    }
    check_config(values, str(folder), Dataset)
    return values


def find_files(folder: Path) -> dict[str, Path]:
    """Return the paths of train_images, train_labels, test_images and test_labels in `folder`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Name the one that has your four IDX files")
    paths = sorted(folder.glob("*.gz"))
    found = {_role(path): path for path in paths}
    if len(paths) != 4 or found.keys() != DataFiles.model_fields.keys():
        names = ", ".join(path.name for path in paths) or "no *.gz file"
        raise UserError(
            f"{folder}: expected four gzip-compressed IDX files, images and labels with train, and"
            f" images and labels with test or t10k in their names; there is {names}"
        )
    return {role: found[role] for role in DataFiles.model_fields}


def _role(path: Path) -> str:
    splits = {"train": "train", "test": "test", "t10k": "test"}
    split = next((splits[word] for word in splits if word in path.name), "unknown")
    return f"{split}_{ {3: 'images', 1: 'labels'}.get(len(read_idx_shape(path)), 'unknown') }"


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
