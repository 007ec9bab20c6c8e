"""What experiments came to: read from their Git references, gathered in a table."""

import io
import json
from functools import cached_property

import pandas as pd

from fashion.core.errors import UserError
from tools.git import git_bytes, yaml_at


class Result:
    """The tracked params, metrics, curves and pictures of one revision.

    `is_new` says that it was run just now, or taken from DVC's run cache.
    """

    def __init__(self, name: str, revision: str, is_new: bool = False):
        self.name, self.revision, self.is_new = name, revision, is_new
        self.params = yaml_at(revision, "params.yaml")
        self.data, self.train, self.test = (
            json.loads(self.file_bytes(f"metrics/{part}.json"))
            for part in ("data", "train", "test")
        )
        self.history = self._csv("plots/history.csv")

    @cached_property
    def environment(self) -> dict:
        """Where it was computed; nothing where its commit does not track the record."""
        try:
            return json.loads(self.file_bytes("metrics/environment.json"))
        except UserError:
            return {}

    @cached_property
    def predictions(self) -> pd.DataFrame:
        return self._csv("plots/predictions.csv")

    @cached_property
    def per_class(self) -> pd.DataFrame:
        return self._csv("metrics/per_class.csv")

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, that of label 0 first."""
        return self.per_class["class"].tolist()

    def file_bytes(self, path: str) -> bytes:
        return git_bytes("show", f"{self.revision}:{path}")

    def _csv(self, path: str) -> pd.DataFrame:
        return pd.read_csv(io.BytesIO(self.file_bytes(path)), keep_default_na=False)

    @property
    def arithmetic(self) -> dict[str, str]:
        """Under "arithmetic", how its numbers were computed, where that was not portable."""
        found = self.train.get("arithmetic") or self.test.get("arithmetic")
        return {"arithmetic": found} if found else {}

    def summary(self) -> dict:
        """A row of metrics/experiments.csv.

        Losses are cross-entropies in nats; the interval is Wilson's, 95 %.
        """
        epochs, batch_size = len(self.history), self.params["train"]["batch_size"]
        best = self.history.loc[self.history["val_loss"].idxmin()]
        low, high = self.test["accuracy_interval"]
        return {
            "experiment": self.name,
            "epochs": epochs,
            "batch_size": batch_size,
            "steps": epochs * -(-self.data["images"]["train"] // batch_size),
            "best_epoch": int(best["epoch"]),
            "best_val_loss": best["val_loss"],
            "last_val_loss": self.history["val_loss"].iloc[-1],
            "last_loss_gap": self.history["val_loss"].iloc[-1] - self.history["loss"].iloc[-1],
            "val_accuracy": self.train["val_accuracy"],
            "accuracy": self.test["accuracy"],
            "accuracy_low": low,
            "accuracy_high": high,
            "macro_f1": self.test["macro_f1"],
        } | self.arithmetic


def markdown(table: pd.DataFrame) -> str:
    """The rows of one of the tables in metrics/ as a Markdown table."""
    return format_table(table).to_markdown(index=False, disable_numparse=True, stralign="right")


def format_table(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows, or their means and deviations over seeds, as texts under titles."""
    make = {"run": _unchanged, "seed": _seeds, "kind": _gate, "sweep": _sweeps}
    return next((make[column] for column in make if column in table), _experiments)(table)


def _unchanged(table: pd.DataFrame) -> pd.DataFrame:
    return table


def _experiments(table: pd.DataFrame) -> pd.DataFrame:
    """Fits into 80 columns. ± is half the width of the 95 % interval over the test images."""
    half_widths = (table["accuracy_high"] - table["accuracy_low"]) / 2
    return pd.DataFrame(
        {
            "experiment": table["experiment"],
            "epochs": table["epochs"].map(str),
            "batch": table["batch_size"].map(str),
            "best val_loss": [
                f"{row.best_val_loss:.4f} (ep. {row.best_epoch})" for row in table.itertuples()
            ],
            "gap": table["last_loss_gap"].map("{:+.4f}".format),
            "test accuracy": [
                f"{accuracy:.4f} ± {half:.4f}"
                for accuracy, half in zip(table["accuracy"], half_widths, strict=True)
            ],
        }
        | _arithmetic(table)
    )


def _arithmetic(table: pd.DataFrame) -> dict[str, pd.Series]:
    """A column for how the numbers were computed, where any was not computed portably."""
    return {"arithmetic": table["arithmetic"].fillna("")} if "arithmetic" in table else {}


def _seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over the seeds of each experiment."""
    groups = table.groupby("experiment", sort=False)
    columns = {
        "best validation loss": "best_val_loss",
        "last validation loss": "last_val_loss",
        "gap": "last_loss_gap",
        "validation accuracy": "val_accuracy",
        "test accuracy": "accuracy",
        "macro F1": "macro_f1",
    }
    spread = {
        title: [
            f"{mean:.4f} ± {std:.4f}"
            for mean, std in zip(groups[column].mean(), groups[column].std(), strict=True)
        ]
        for title, column in columns.items()
    }
    counts = {"experiment": list(groups.groups), "seeds": groups.size().map(str).tolist()}
    one_each = groups.first().reset_index()
    return pd.DataFrame(counts | spread | _arithmetic(one_each))


def _gate(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many checks of each kind of change call it a regression, and what that takes."""
    rows = list(table.itertuples())
    return pd.DataFrame(
        {
            "kind": table["kind"],
            "loss of accuracy, points": [f"{100 * row.loss_of_accuracy + 0.0:.1f}" for row in rows],
            "largest loss of F1, points": [
                f"{100 * row.largest_loss_of_f1:.1f} ({row.of_class})" for row in rows
            ],
            "called a regression": [
                f"{row.found:,} of {row.checks:,} ({row.found / row.checks:.1%})" for row in rows
            ],
            "mostly by": table["mostly_by"].fillna(""),
            "further seeds: mean, most": [
                f"{row.further_seeds_mean:.1f}, {row.further_seeds_most}" for row in rows
            ],
        }
    )


def _sweeps(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sweep": table["sweep"],
            "trials": table["trials"].map(str),
            "pruned": table["pruned"].map(str),
            "epochs": table["epochs"].map(str),
            "best trial": table["best_trial"],
            "validation accuracy": table["val_accuracy"].map("{:.4f}".format),
            "validation loss": table["val_loss"].map("{:.4f}".format),
            "test accuracy": table["accuracy"].map("{:.4f}".format),
        }
        | _arithmetic(table)
    )
