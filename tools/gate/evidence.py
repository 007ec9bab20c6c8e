"""Are the results what they claim to be?  `check` takes nobody's word for them.

Whether they belong to the code, params and data beside them; whether the metrics follow from the
predictions; whether the images are the baseline's, and what the baseline's code makes of the model;
whether the code makes them from the raw data.
"""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fashion.errors import UserError
from stages.dataset import read_description
from tools.dvc import DVC_YAML, command, status, subprocess_env, use_cache
from tools.dvc_lock import DVC_LOCK, lock_at, md5_of, read_lock
from tools.fsck import cache_folder, verify_cache
from tools.git import git, git_bytes, temporary_clone

TRAIN, TEST = Path("metrics/train.json"), Path("metrics/test.json")
PREDICTIONS, MODEL, PREPARED = (
    Path("plots/predictions.csv"),
    Path("models/model.keras"),
    Path("data/prepared"),
)
COMPARED = ("test_images", "test_labels", "validation_images", "validation_labels")
SHARES = ("accuracy", "macro_f1", "expected_calibration_error", "val_accuracy")  # in [0, 1]
LOSSES = ("loss", "val_loss")  # not negative
BINS = 15  # of the expected calibration error
ROUNDING = 2e-6  # of files with six decimals
LAST_LINES = 8  # of a command that failed


class CannotJudge(UserError):
    """The results here can't be judged: the verdict in words, a heading, and what was found."""

    def __init__(self, verdict: str, heading: str, lines: list[str]):
        super().__init__("; ".join(lines))
        self.verdict, self.heading, self.lines = verdict, heading, lines


def find_stale_outputs() -> list[str]:
    """Return what fsck and `dvc status` find.

    That is results that are damaged, changed by hand, or not of this code, params and data.
    """
    verify_cache()
    problems = []
    for stage, changes in status().items():
        for change in changes:
            if isinstance(change, str):
                problems.append(f"{stage}: {change}. `dvc repro` brings its results up to date")
                continue
            for kind, files in change.items():
                for file, state in files.items():
                    problems.append(f"{stage}: {file} {_explained(kind, state)}")
    return problems


def _explained(kind: str, state: Any) -> str:
    if kind == "changed outs":
        known = {"deleted": "is missing", "not in cache": "is not in the cache"}
        found = known.get(state, "is not what the stage wrote: edited or damaged")
        return f"{found}. `dvc repro` makes it again"
    what = state if isinstance(state, str) else "params"
    return f"has changed since the stage ran ({kind}, {what}). `dvc repro` runs it"


def read_metrics(revision: str | None = None) -> dict[str, float]:
    """Return the metrics that training and evaluation wrote, at a revision or in the workspace.

    Raises UserError where they are missing, or are what no metric can be.
    """
    found: dict[str, Any] = {}
    for path in (TRAIN, TEST):
        where = f"{path} of {revision[:7]}" if revision else str(path)
        try:
            text = git("show", f"{revision}:{path}") if revision else path.read_text()
            found |= {name: (value, where) for name, value in json.loads(text).items()}
        except (UserError, FileNotFoundError):
            raise UserError(f"there is no {where}. `dvc repro` makes it") from None
        except (ValueError, AttributeError) as error:
            raise UserError(f"{where} is damaged: {error}. `dvc repro` makes it again") from None
    for name, (value, where) in found.items():
        _require_possible(name, value, where)
    return {
        name: float(value)
        for name, (value, _) in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _require_possible(name: str, value: Any, where: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in SHARES + LOSSES and not number:
        raise UserError(f"{where}: {name} is {value!r}, which is no number")
    if number and not np.isfinite(value):
        raise UserError(f"{where}: {name} is {value}, which is not finite")
    if name in SHARES and not 0 <= value <= 1:
        raise UserError(f"{where}: {name} is {value}, which is not in [0, 1]")
    if name in LOSSES and value < 0:
        raise UserError(f"{where}: {name} is {value}, which is below 0")


def check_predictions(metrics: dict[str, float]) -> list[str]:
    """Compute the test metrics again from predictions.csv and the labels.

    Return what does not agree. None of the code of `evaluate` is used.
    """
    names = np.array(read_description(PREPARED / "dataset.json").class_names)
    actual = names[np.load(PREPARED / "test_labels.npy")]
    try:
        table = read_predictions(PREDICTIONS.read_bytes(), str(PREDICTIONS))
    except FileNotFoundError:
        return [f"there is no {PREDICTIONS}"]
    except UserError as error:
        return [str(error)]
    if len(table) != len(actual):
        return [f"{PREDICTIONS} has {len(table):,} rows for {len(actual):,} test images"]
    if (table["actual"] != actual).any():
        at = int((table["actual"] != actual).to_numpy().argmax())
        return [
            f"{PREDICTIONS}: test image {at} is given as {table['actual'][at]}, and is {actual[at]}"
        ]
    if unknown := sorted(set(table["predicted"]) - set(names)):
        return [f"{PREDICTIONS}: there is no class {', '.join(unknown)}"]
    right = table["predicted"] == table["actual"]
    own_loss = -np.log(table["confidence"].clip(lower=np.finfo(float).eps))
    # a confidence with six decimals gives its logarithm to so much
    allowed = ROUNDING * (1 + 1 / table["confidence"].clip(lower=1e-6))
    if (abs(table["loss"] - own_loss)[right] > allowed[right]).any() or (
        table["loss"] < own_loss - allowed
    ).any():
        return [f"{PREDICTIONS}: losses and confidences contradict each other"]
    bins = pd.cut(table["confidence"], np.linspace(0, 1, BINS + 1), include_lowest=True)
    gaps = (right - table["confidence"]).groupby(bins, observed=True).sum().abs()
    hits = right.groupby(table["actual"]).sum().reindex(names, fill_value=0)
    of_class = table["actual"].value_counts().reindex(names, fill_value=0)
    claimed = table["predicted"].value_counts().reindex(names, fill_value=0)
    again = {
        "accuracy": right.mean(),
        "loss": table["loss"].mean(),
        "macro_f1": (2 * hits / (of_class + claimed)).fillna(0).mean(),
        "expected_calibration_error": gaps.sum() / len(table),
    }
    # rounding moves a confidence from one bin to the next now and then
    tolerance = {"expected_calibration_error": 6 / len(table)}
    return [
        f"{name} is {metrics[name]:.6f} by {TEST}, and {value:.6f} by {PREDICTIONS}"
        for name, value in again.items()
        if name in metrics and not abs(metrics[name] - value) <= tolerance.get(name, ROUNDING)
    ]


def read_predictions(content: bytes, source: str) -> pd.DataFrame:
    """Parse a predictions.csv. Raises UserError where it is none."""
    try:
        table = pd.read_csv(io.BytesIO(content), keep_default_na=False)
    except ValueError as error:  # empty, not text, uneven rows
        raise UserError(f"{source} is damaged: {error}. `dvc repro` makes it again") from None
    if missing := {"actual", "predicted", "confidence", "loss"} - set(table):
        raise UserError(f"{source} has no column {', '.join(sorted(missing))}")
    for name, most in (("confidence", 1), ("loss", np.inf)):
        values = pd.to_numeric(table[name], errors="coerce")
        if not values.between(0, most).all() or np.isinf(values).any():
            raise UserError(f"{source}: {name} has values that are impossible")
        table[name] = values
    return table


def same_model(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return md5_of(before, MODEL) == md5_of(after, MODEL)


def cached_model(revision: str) -> Path:
    """Return the model of an experiment, in DVC's cache."""
    name = md5_of(lock_at(revision), MODEL)
    return cache_folder() / "files/md5" / name[:2] / name[2:]


def is_yardstick_the_same(commit: str) -> bool:
    """Whether images and labels, and all code that could score them, are those of a commit."""
    before, now = lock_at(commit), read_lock()
    own = (":!tools", ":!tests", ":!bench")  # which no stage imports
    return md5_of(before, PREPARED) == md5_of(now, PREPARED) and not git(
        "diff", "--name-only", commit, "--", str(DVC_YAML), "*.py", *own
    )


class Yardstick:
    """A clone of the baseline, with its test and validation images, and its code to score models.

    It shares the cache, and is gone when the block ends.
    """

    def __init__(self, commit: str):
        self.commit = commit

    def __enter__(self) -> "Yardstick":
        self._stack = temporary_clone("check", self.commit)
        self.folder = self._stack.__enter__()
        use_cache(cache_folder(), self.folder)
        _run(
            command("repro", "prepare"),
            self.folder,
            f"the data of {self.commit[:7]} can't be prepared",
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.__exit__(None, None, None)

    def compare_data(self) -> list[str]:
        """Say how the prepared images and labels differ from those here.

        Training images are not compared: other ones may be what the change is about.
        """
        found = []
        ours, theirs = (
            read_description(folder / PREPARED / "dataset.json").class_names
            for folder in (Path(), self.folder)
        )
        if ours != theirs:
            found.append("the names of the classes")
        for name in COMPARED:
            before, now = (
                np.load(folder / PREPARED / f"{name}.npy", mmap_mode="r")
                for folder in (self.folder, Path())
            )
            words = name.replace("_", " ")
            if before.shape != now.shape:
                found.append(f"the {words}: {len(before):,} before, {len(now):,} now")
            elif different := int((before != now).reshape(len(now), -1).any(axis=1).sum()):
                found.append(f"{different:,} of the {len(now):,} {words}")
        return found

    def compare_scores(self, model: Path, metrics: dict[str, float]) -> list[str]:
        """Score a model by the baseline's code; return which of its metrics are others."""
        shutil.rmtree(self.folder / MODEL.parent, ignore_errors=True)
        (self.folder / MODEL.parent).mkdir()
        shutil.copy(model, self.folder / MODEL)
        (self.folder / TEST).unlink(missing_ok=True)
        _run(
            [sys.executable, "-m", "stages.evaluate"],
            self.folder,
            f"the code of {self.commit[:7]} can't score this model",
        )
        scores = json.loads((self.folder / TEST).read_bytes())
        return [
            f"{name} is {metrics.get(name)} by the code here, {value} by the baseline's"
            for name, value in scores.items()
            if isinstance(value, int | float)
            and not abs(metrics.get(name, np.nan) - value) <= ROUNDING
        ]


def rerun() -> list[str]:
    """Run all stages in a clone without any cache, from the raw data; return what differs.

    The clone has the changes that are not committed.
    """
    with temporary_clone("check", "HEAD", with_changes=True) as clone:
        use_cache(clone / ".dvc/cache", clone)
        _run(command("repro", "--force"), clone, "the pipeline can't be run from the raw data")
        now = read_lock(clone / DVC_LOCK)
    outs = [out for stage in read_lock().values() for out in stage.get("outs", [])]
    return [
        f"{out['path']} is not what the code makes of the raw data"
        for out in outs
        if md5_of(now, Path(out["path"])) != out["md5"]
    ]


def _run(words: list[str], folder: Path, failure: str) -> str:
    """Run a command quietly; return what it printed. Raises UserError with its last lines."""
    result = subprocess.run(
        words, cwd=folder, env=subprocess_env(), capture_output=True, text=True, check=False
    )
    if result.returncode:
        lines = f"{result.stdout}\n{result.stderr}".strip().splitlines()[-LAST_LINES:]
        raise UserError("\n  | ".join([f"{failure}. Its last lines:", *lines]))
    return result.stdout


def changed_images(baseline: str) -> pd.DataFrame:
    """Return how many test images of each class went from right to wrong, and back.

    Columns class, broken and fixed; from the two committed runs. Raises UserError where they can't
    be compared.
    """
    path = str(PREDICTIONS)
    before = read_predictions(git_bytes("show", f"{baseline}:{path}"), f"{path} of {baseline[:7]}")
    now = read_predictions(PREDICTIONS.read_bytes(), path)
    if not before["actual"].equals(now["actual"]):
        raise UserError(f"{path} of {baseline[:7]} is of other images")
    was_right, is_right = before["predicted"] == before["actual"], now["predicted"] == now["actual"]
    changes = pd.DataFrame(
        {"class": now["actual"], "broken": was_right & ~is_right, "fixed": ~was_right & is_right}
    )
    return changes.groupby("class", sort=False)[["broken", "fixed"]].sum().reset_index()
