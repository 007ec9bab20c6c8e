"""Score the toy model's predictions for the test images, a toy stage."""

import csv
import json
import math
from bisect import bisect_left
from pathlib import Path

from stages.predictions import predict, read_labels

BINS = 15  # of the calibration error

model = json.loads(Path("models/model.keras").read_bytes())
names = json.loads(Path("data/prepared/dataset.json").read_bytes())["class_names"]
table = predict(model["accuracy"], model["seed"], read_labels("test"), len(names))

rows, f1 = [], []
for label, name in enumerate(names):
    hits = sum(row[:2] == (label, label) for row in table)
    claimed, support = (sum(row[i] == label for row in table) for i in (1, 0))
    f1.append(2 * hits / (claimed + support) if hits else 0.0)
    rows.append([name, hits / claimed if claimed else 0.0, hits / support, f1[-1], support])


def write_csv(path: str, header: list[str], table: list[list]) -> None:
    texts = [[f"{x:.6f}" if isinstance(x, float) else x for x in row] for row in table]
    with Path(path).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *texts])


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
    "ece": sum(map(abs, gaps)) / count,
    "accuracy_interval": [accuracy - half, accuracy + half],
}
rounded = json.loads(json.dumps(metrics), parse_float=lambda text: round(float(text), 6))
Path("metrics/test.json").write_text(json.dumps(rounded, indent=2) + "\n")
