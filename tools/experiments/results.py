"""Read the results of an experiment from its Git reference."""

from functools import cached_property

import pandas as pd

from fashion.core.errors import FileError, UserError
from fashion.core.files import read_csv
from tools.dvc import experiment_ref
from tools.git import file_at, git, yaml_at

TRIAL = "Trial of a sweep"  # the subject of a trial's commit


class Result:
    """The tracked params, metrics, curves and plots of one revision."""

    def __init__(self, name: str, revision: str):
        self.name, self.revision = name, revision
        self.params = yaml_at(revision, "params.yaml")
        self.data, self.train, self.test = (
            yaml_at(revision, f"metrics/{part}.json") for part in ("data", "train", "test")
        )  # YAML 1.2 includes JSON
        self.history = self._csv("plots/history.csv")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        return self._csv("plots/predictions.csv")

    @cached_property
    def per_class(self) -> pd.DataFrame:
        return self._csv("metrics/per_class.csv")

    @property
    def class_names(self) -> list[str]:
        """Return the names of the classes, by label."""
        return self.per_class["class"].tolist()

    def file_bytes(self, path: str) -> bytes:
        return file_at(self.revision, path)

    def _csv(self, path: str) -> pd.DataFrame:
        try:
            return read_csv(self.file_bytes(path))
        except FileError as error:
            raise UserError(f"{path} of {self.name}: {error.__context__}") from None

    @property
    def environment(self) -> dict[str, str]:
        """Return {"environment": DESCRIPTION}, or {} if the result is portable."""
        found = [self.train.get(key) or self.test.get(key) for key in ("environment", "device")]
        return {"environment": ", ".join(filter(None, found))} if any(found) else {}

    def summary(self) -> dict:
        """Return a row of the tables in metrics/comparisons.

        Losses are cross-entropies in nats; the interval of the accuracy is Wilson's, 95 %.
        """
        if missing := {"accuracy", "accuracy_interval", "macro_f1"} - self.test.keys():
            names = ", ".join(sorted(missing))
            raise UserError(f"{self.name}: metrics/test.json lacks {names}, for the table")
        epochs, batch_size = len(self.history), self.params["train"]["batch_size"]
        best = self.history.loc[self.history["val_loss"].idxmin()]
        last = self.history.iloc[-1]
        low, high = self.test["accuracy_interval"]
        return {
            "experiment": self.name,
            "epochs": epochs,
            "batch_size": batch_size,
            "steps": epochs * -(-self.data["images"]["train"] // batch_size),
            "best_epoch": int(best["epoch"]),
            "best_val_loss": best["val_loss"],
            "last_val_loss": last["val_loss"],
            "last_loss_gap": last["val_loss"] - last["loss"],
            "val_accuracy": self.train["val_accuracy"],
            "accuracy": self.test["accuracy"],
            "accuracy_low": low,
            "accuracy_high": high,
            "macro_f1": self.test["macro_f1"],
        } | self.environment


def exclude_sweep_trials(commit: str) -> dict[str, str]:
    """Return the experiments of a commit that are not trials of a sweep: revision by name."""
    fields = "%(refname:lstrip=4)%00%(objectname)%00%(contents:subject)"
    lines = git("for-each-ref", f"--format={fields}", experiment_ref(commit)).splitlines()
    rows = [line.split("\0") for line in lines]
    return {name: revision for name, revision, subject in rows if subject != TRIAL}
