"""Write and read the line that training prints after each epoch.

epoch 3/20 loss 0.3309 accuracy 0.8789 val_loss 0.3430 val_accuracy 0.8742
"""

import re
from collections.abc import Mapping

COLUMNS = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]  # of a history
PATTERN = re.compile(
    r"epoch (?P<epoch>\d+)/(?P<epochs>\d+) "
    + " ".join(rf"{name} (?P<{name}>\d+\.\d+)" for name in COLUMNS[1:])
)


def format_epoch(row: Mapping[str, float], epochs: int) -> str:
    """Return the line of an epoch, without a line end.

    `row` has a value for each of COLUMNS: the epoch, counted from 1, losses in nats, accuracies in
    [0, 1]. Losses and accuracies get four decimals. `epochs` is the number of all epochs.
    """
    values = " ".join(f"{name} {row[name]:.4f}" for name in COLUMNS[1:])
    return f"epoch {row['epoch']}/{epochs} {values}"


def parse_epoch(line: str) -> tuple[dict[str, float], int] | None:
    """Return the row of COLUMNS and the number of epochs in a line, or None if it has none."""
    if not (match := PATTERN.fullmatch(line.strip())):
        return None
    row = {name: float(match[name]) for name in COLUMNS[1:]}
    return {"epoch": int(match["epoch"])} | row, int(match["epochs"])
