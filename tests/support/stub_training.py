"""Stand in for stages/train.py where training itself does not matter.

It writes the same files, with scores that follow from params.
"""

import csv
import json
import math
import time
from pathlib import Path

from fashion.environment import arithmetic
from fashion.strict_yaml import read_yaml
from stages.params import PARAMS

SECONDS = 0.0  # an epoch

params = read_yaml(PARAMS)
train = params["train"]
best = (
    0.9
    - abs(math.log10(train["learning_rate"]) + 3) / 10
    - params["model"]["dropout"] / 10
    + params["seed"] % 7 / 1000
)
with Path("plots/history.csv").open("w", newline="") as file:
    history = csv.writer(file, lineterminator="\n")
    history.writerow(["epoch", "loss", "accuracy", "val_loss", "val_accuracy"])
    for epoch in range(1, train["epochs"] + 1):
        time.sleep(SECONDS)
        accuracy = round(best * (1 - 0.5**epoch), 6)
        loss = round(1 - accuracy, 6)
        history.writerow([epoch, loss, accuracy, loss, accuracy])
        scores = (
            f"loss {loss:.4f} accuracy {accuracy:.4f}"
            f" val_loss {loss:.4f} val_accuracy {accuracy:.4f}"
        )
        print(f"epoch {epoch}/{train['epochs']} {scores}", flush=True)
scores = {
    "val_loss": loss,
    "val_accuracy": accuracy,
}
Path("metrics/train.json").write_text(
    json.dumps({"epoch": epoch} | scores | {"loss_gap": 0.0} | arithmetic())
)
Path("models").mkdir(exist_ok=True)
Path("models/model.keras").write_text(json.dumps(params["model"] | train))
