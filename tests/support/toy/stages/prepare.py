"""Write images of four pixels (label, number in two bytes, split), a toy stage.

They differ, except for two that are in two splits each, as in real data.
"""

import json
import sys
from pathlib import Path

from ruamel.yaml import YAML

TRAINING, TEST = 1200, 400  # images
TWINS = {("train", 2): 1, ("validation", 1): 2}  # images of which another split has the same


def save(path: Path, shape: tuple, content: bytes) -> None:
    """Write an array of bytes in NumPy's format, version 1.0, without NumPy."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header.encode() + content)


prepare, dataset = (YAML(typ="safe").load(Path(f"{name}.yaml")) for name in ("params", "dataset"))
names, validation = dataset["class_names"], prepare["prepare"]["validation_size"]
if validation >= TRAINING:
    sys.exit(f"prepare: prepare.validation_size: {validation} of {TRAINING} images leave none")
counts = {"train": TRAINING - validation, "validation": validation, "test": TEST}
prepared = Path("data/prepared")
prepared.mkdir(parents=True, exist_ok=True)
for number, (split, count) in enumerate(counts.items()):
    labels = bytes(i % len(names) for i in range(count))
    pixels = (
        (label, i // 256, i % 256, TWINS.get((split, i), number)) for i, label in enumerate(labels)
    )
    save(prepared / f"{split}_labels.npy", (count,), labels)
    save(prepared / f"{split}_images.npy", (count, 2, 2), bytes(x for one in pixels for x in one))
description = {key: dataset[key] for key in ("name", "image_shape", "class_names", "ground")}
(prepared / "dataset.json").write_text(json.dumps(description))
Path("metrics").mkdir(exist_ok=True)
facts = {
    "name": dataset["name"],
    "images": counts,
    "images_per_class": {
        split: {name: len(range(label, count, len(names))) for label, name in enumerate(names)}
        for split, count in counts.items()
    },
    "pixel_mean": 0.5,
    "pixel_std": 0.25,
    "test_images_also_in_training": 1,
}
Path("metrics/data.json").write_text(json.dumps(facts, indent=2) + "\n")
