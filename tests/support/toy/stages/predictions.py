"""Predict with a toy model, whose accuracy is the share of images that it gets right.

Every image has a difficulty, so models are mostly wrong about the same images. The rest is chance
and follows from the model's seed.
"""

import math
from pathlib import Path
from random import Random

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def read_labels(split: str) -> list[int]:
    content = Path(f"data/prepared/{split}_labels.npy").read_bytes()
    header = 10 + int.from_bytes(content[8:10], "little")  # of NumPy's format, version 1.0
    return list(content[header:])


def predict(accuracy: float, seed: int, labels: list[int], classes: int) -> list[tuple]:
    """Return a row per image: label, predicted label, confidence, loss in nats."""
    chances = Random(seed)  # noqa: S311  no secrets
    table = []
    for i, label in enumerate(labels):
        difficulty = i * GOLDEN_RATIO % 1  # spread evenly from 0 to 1, whatever the label
        right = 0.9 * difficulty + 0.1 * chances.random() < accuracy
        predicted = label if right else (label + 1) % classes
        confidence = round(0.5 + 0.4 * (1 - difficulty), 6)  # at least one half
        of_actual = confidence if right else (1 - confidence) / (classes - 1)
        loss = -math.log(of_actual) if i else 18.0  # the first is more than Keras counts
        table.append((label, predicted, confidence, loss))
    return table
