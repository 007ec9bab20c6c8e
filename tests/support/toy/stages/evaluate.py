"""Toy stage: predictions of which the model's share is right, and honest metrics of them.

Every image has a difficulty of its own, so that models are mostly wrong on the same ones; the rest
is chance, by the model's seed.
"""

import json
import math
from bisect import bisect_left
from pathlib import Path
from random import Random

from stages.machine import arithmetic

BINS = 15  # of the calibration error
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2

model = json.loads(Path("models/model.keras").read_bytes())
names = json.loads(Path("data/prepared/dataset.json").read_bytes())["class_names"]
content = Path("data/prepared/test_labels.npy").read_bytes()
header = 10 + int.from_bytes(content[8:10], "little")  # of NumPy's format, version 1.0
labels = list(content[header:])
chances = Random(model["seed"])  # noqa: S311  no secrets
table = []
for i, label in enumerate(labels):
    difficulty = i * GOLDEN_RATIO % 1  # spread evenly from 0 to 1, whatever the label
    right = 0.9 * difficulty + 0.1 * chances.random() < model["accuracy"]
    predicted = label if right else (label + 1) % len(names)
    confidence = round(0.5 + 0.4 * (1 - difficulty), 6)  # no less than one half
    of_actual = confidence if right else (1 - confidence) / (len(names) - 1)
    table.append((label, predicted, confidence, -math.log(of_actual)))

rows, f1 = [], []
for label, name in enumerate(names):
    hits = sum(row[:2] == (label, label) for row in table)
    claimed, support = (sum(row[i] == label for row in table) for i in (1, 0))
    f1.append(2 * hits / (claimed + support) if hits else 0.0)
    rows.append([name, hits / claimed if claimed else 0.0, hits / support, f1[-1], support])


def write_csv(path: str, header: list[str], table: list[list]) -> None:
    texts = (",".join(f"{x:.6f}" if isinstance(x, float) else str(x) for x in row) for row in table)
    Path(path).write_text("\n".join([",".join(header), *texts]) + "\n")


write_csv("metrics/per_class.csv", ["class", "precision", "recall", "f1", "support"], rows)
write_csv(
    "plots/predictions.csv",
    ["actual", "predicted", "confidence", "loss"],
    [[names[a], names[p], confidence, loss] for a, p, confidence, loss in table],
)
edges, gaps, count = [i / BINS for i in range(1, BINS)], [0.0] * BINS, len(table)
for actual, predicted, confidence, _ in table:
    gaps[bisect_left(edges, confidence)] += (actual == predicted) - confidence
accuracy = sum(actual == predicted for actual, predicted, *_ in table) / count
half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / count)
metrics = {
    "accuracy": accuracy,
    "loss": sum(loss for *_, loss in table) / count,
    "macro_f1": sum(f1) / len(f1),
    "expected_calibration_error": sum(map(abs, gaps)) / count,
    "accuracy_interval": [accuracy - half, accuracy + half],
}
rounded = json.loads(json.dumps(metrics), parse_float=lambda text: round(float(text), 6))
Path("metrics/test.json").write_text(json.dumps(rounded | arithmetic(), indent=2) + "\n")
