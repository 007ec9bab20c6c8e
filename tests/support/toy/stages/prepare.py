"""Toy stage: grey squares, the brighter the higher their label."""

import json
import sys
from pathlib import Path

import numpy as np

from fashion.strict_yaml import read_yaml

TRAINING, TEST = 1200, 400  # images
prepare, dataset = (read_yaml(Path(f"{name}.yaml")) for name in ("params", "dataset"))
names, validation = dataset["class_names"], prepare["prepare"]["validation_size"]
if validation >= TRAINING:
    sys.exit(f"prepare: prepare.validation_size: {validation} of {TRAINING} images leave none")
counts = {"train": TRAINING - validation, "validation": validation, "test": TEST}
prepared = Path("data/prepared")
prepared.mkdir(parents=True, exist_ok=True)
for split, count in counts.items():
    labels = np.arange(count, dtype=np.uint8) % len(names)
    np.save(prepared / f"{split}_labels.npy", labels)
    np.save(prepared / f"{split}_images.npy", np.tile(labels[:, None, None], (1, 2, 2)))
description = {key: dataset[key] for key in ("name", "image_shape", "class_names")}
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
    "test_images_also_in_training": 0,
}
Path("metrics/data.json").write_text(json.dumps(facts, indent=2) + "\n")
