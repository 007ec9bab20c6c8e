"""Compute an accuracy from the params, epoch by epoch, a toy stage."""

import csv
import json
import math
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

from fashion.core.environment import environment
from fashion.model.epoch_line import COLUMNS, format_epoch
from stages.predictions import predict, read_labels

SECONDS = 0.0  # that an epoch takes; tests set more
params = YAML(typ="safe").load(Path("params.yaml"))
train = params["train"]
if train["learning_rate"] >= 1:
    sys.exit("train: training diverged: the loss is not a number in epoch 1")
best = (
    0.9
    - abs(math.log10(train["learning_rate"]) + 3) / 10
    - params["model"]["dropout"] / 10
    + params["seed"] % 7 / 1000
)
labels = read_labels("validation")
classes = len(json.loads(Path("data/prepared/dataset.json").read_bytes())["class_names"])
Path("plots").mkdir(exist_ok=True)
with Path("plots/history.csv").open("w", newline="") as file:
    history = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    history.writeheader()
    for epoch in range(1, train["epochs"] + 1):
        time.sleep(SECONDS)
        accuracy = round(best * (1 - 0.5**epoch), 6)
        table = predict(accuracy, params["seed"], labels, classes)
        val_accuracy = round(sum(a == b for a, b, *_ in table) / len(table), 6)
        losses = [min(loss, -math.log(1e-7)) for *_, loss in table]  # as Keras clips them
        val_loss = round(sum(losses) / len(table), 6)
        values = (epoch, val_loss, accuracy, val_loss, val_accuracy)
        row = dict(zip(COLUMNS, values, strict=True))
        history.writerow(row)
        print(format_epoch(row, train["epochs"]), flush=True)
metrics = {"val_loss": val_loss, "val_accuracy": val_accuracy, "loss_gap": 0.0}
metrics |= {"parameters": 1} | environment(params["arithmetic"])
Path("metrics/train.json").write_text(json.dumps(metrics, indent=2) + "\n")
Path("models").mkdir(exist_ok=True)
model = {"accuracy": accuracy, "seed": params["seed"], "model": params["model"], "train": train}
content = json.dumps(model).encode()
Path("models/model.keras").write_bytes(content)
