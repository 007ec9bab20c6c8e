"""Toy stage: predictions of which the model's share is right, and honest metrics of them.

Every image has a difficulty of its own, so that models are mostly wrong on the same ones; the rest
is chance, by the model's seed.
"""

import json
import math
from pathlib import Path

import numpy as np

from fashion.environment import arithmetic

model = json.loads(Path("models/model.keras").read_bytes())
names = json.loads(Path("data/prepared/dataset.json").read_bytes())["class_names"]
labels = np.load("data/prepared/test_labels.npy")
difficulty = np.random.default_rng(0).random(len(labels))
chance = np.random.default_rng(model["seed"]).random(len(labels))
right = 0.9 * difficulty + 0.1 * chance < model["accuracy"]
predicted = np.where(right, labels, (labels + 1) % len(names))
confidence = np.round(0.5 + 0.4 * (1 - difficulty), 6)  # no less than one half
of_actual = np.where(right, confidence, (1 - confidence) / (len(names) - 1))

rows, f1 = [], []
for label, name in enumerate(names):
    hits = int(((labels == label) & (predicted == label)).sum())
    claimed, support = int((predicted == label).sum()), int((labels == label).sum())
    f1.append(2 * hits / (claimed + support) if hits else 0.0)
    rows.append([name, hits / claimed if claimed else 0.0, hits / support, f1[-1], support])


def write_csv(path: str, header: list[str], table: list[list]) -> None:
    texts = (",".join(f"{x:.6f}" if isinstance(x, float) else str(x) for x in row) for row in table)
    Path(path).write_text("\n".join([",".join(header), *texts]) + "\n")


write_csv("metrics/per_class.csv", ["class", "precision", "recall", "f1", "support"], rows)
losses = (-np.log(of_actual)).tolist()
table = zip(labels, predicted, confidence.tolist(), losses, strict=True)
write_csv(
    "plots/predictions.csv",
    ["actual", "predicted", "confidence", "loss"],
    [[names[a], names[p], c, loss] for a, p, c, loss in table],
)
bin_of = np.digitize(confidence, np.linspace(0, 1, 16), right=True)
gaps = np.bincount(bin_of, right - confidence)
accuracy, count = float(right.mean()), len(labels)
half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / count)
metrics = {
    "accuracy": accuracy,
    "loss": float(-np.log(of_actual).mean()),
    "macro_f1": float(np.mean(f1)),
    "expected_calibration_error": float(abs(gaps).sum() / len(labels)),
    "accuracy_interval": [accuracy - half, accuracy + half],
}
rounded = {name: np.round(value, 6).tolist() for name, value in metrics.items()}
Path("metrics/test.json").write_text(json.dumps(rounded | arithmetic(), indent=2) + "\n")
