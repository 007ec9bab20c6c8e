"""How often does `make check` cry wolf, and what does it miss?  `python -m bench.gate`

Trains the committed params with many seeds, and regressions of several kinds with a few each, as
DVC experiments side by side, in a clone under .dvc/tmp that shares the cache. Then each rule judges
all pairs (or groups) of those runs: of unchanged runs a regression is a false alarm, of the others
a detection. The tolerances are those of metrics/noise.json, measured on other seeds.
"""

import argparse
import itertools
import json
import random
import shutil
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path

import pandas as pd
from joblib import cpu_count

from fashion.errors import UserError, exit_on_user_error
from fashion.files import write_csv
from fashion.strict_yaml import read_yaml
from stages.params import PARAMS
from tools.arguments import positive_int
from tools.dvc import dvc, use_cache
from tools.experiments.up_to_date import run_missing
from tools.fsck import cache_folder
from tools.gate.check import judge_metrics
from tools.gate.config import Gate, read_gate
from tools.gate.noise import NOISE, number_metrics
from tools.gate.rule import REGRESSION
from tools.git import git, local_clone

CLONE, TABLE = Path(".dvc/tmp/bench-gate"), Path("metrics/gate.csv")
FIRST_SEED = 1000  # far from those that metrics/noise.json was measured with
GROUPS = 2000  # of runs that are judged by their mean; drawn at random where there are more
TOGETHER = 5  # runs in such a group, as in `make check ARGS="--seeds 5"`

BEFORE_WRITING, FIT = (
    "    splits = {\n",
    "make_dataset(*training_data, batch_size=batch_size, seed=seed)",
)
LOADED = 'predict(load_model(files["model.keras"]), images)'
KINDS = {  # what goes wrong: other params, or texts in the code and what stands there instead
    "pixels not scaled": [("fashion/models.py", "Rescaling(1 / 255", "Rescaling(1.0")],
    "10 % of labels wrong": [
        (
            "stages/prepare.py",
            "    train, validation =",
            "    labels = labels.copy()\n    train, validation =",
        ),
        (
            "stages/prepare.py",
            BEFORE_WRITING,
            f"    labels[train[::10]] = (labels[train[::10]] + 1) % 10\n{BEFORE_WRITING}",
        ),
    ],
    "a tenth of the training data": [
        ("stages/prepare.py", BEFORE_WRITING, f"    train = train[::10]\n{BEFORE_WRITING}")
    ],
    "1 epoch": {"train.epochs": 1},
    "2 epochs": {"train.epochs": 2},
    "learning rate 0.03": {"train.learning_rate": 0.03},
    "hidden units [16]": {"model.hidden_units": [16]},
    "no shuffling": [
        ("fashion/training.py", FIT, "make_dataset(*training_data, batch_size=batch_size)")
    ],
    "test images shifted by 3 pixels": [
        ("stages/evaluate.py", LOADED, LOADED.replace("images)", "np.roll(images, 3, axis=2))")),
        (
            "stages/evaluate.py",
            "from fashion.backend",
            "import numpy as np\n\nfrom fashion.backend",
        ),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="gate", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--unchanged",
        metavar="N",
        type=positive_int,
        default=20,
        help="seeds of the committed params",
    )
    parser.add_argument(
        "--changed", metavar="N", type=positive_int, default=8, help="seeds of each regression"
    )
    arguments = parser.parse_args()
    noise, check = json.loads(NOISE.read_text()), read_gate()
    make_clone()
    with chdir(CLONE):
        unchanged = train("unchanged", {}, arguments.unchanged)
        changed = {kind: train(kind, change, arguments.changed) for kind, change in KINDS.items()}
    rows = [summary("unchanged", unchanged, unchanged, noise, check)]
    rows += [summary(kind, runs, unchanged, noise, check) for kind, runs in changed.items()]
    write_csv(TABLE, pd.DataFrame(rows))
    print(pd.DataFrame(rows).to_markdown(index=False), f"\n\nWritten: {TABLE}")


def make_clone() -> None:
    """Make a clone of the last commit, with our cache.

    Data is not made again, and a second call finds its runs there.
    """
    shutil.rmtree(CLONE, ignore_errors=True)
    local_clone(CLONE)
    use_cache(cache_folder(), CLONE)
    dvc("checkout", "--quiet", folder=CLONE)


def train(kind: str, change: dict | list, seeds: int) -> list[dict[str, float]]:
    """Run one kind with several seeds; return the metrics of each.

    Code is changed in a commit of its own.
    """
    git("checkout", "--quiet", "--force", "--detach", "origin/HEAD")
    overrides = change if isinstance(change, dict) else {}
    for file, old, new in change if isinstance(change, list) else []:
        text = Path(file).read_text(encoding="utf-8")
        if old not in text:
            raise UserError(
                f"{kind}: {file} has no {old!r} any more; bench/gate.py must be brought up to date"
            )
        Path(file).write_text(text.replace(old, new), encoding="utf-8")
    git(
        "-c",
        "user.name=bench",
        "-c",
        "user.email=bench@localhost",
        "commit",
        "--quiet",
        "--all",
        "--allow-empty",
        "-m",
        kind,
    )
    name = "".join(letter if letter.isalnum() else "-" for letter in kind)
    planned = {
        f"{name}-{seed}": overrides | {"seed": seed}
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    }
    print(f"{kind}: {len(planned)} runs", flush=True)
    return [
        number_metrics(result)
        for result in run_missing(planned, read_yaml(PARAMS), cpu_count()).values()
    ]


def summary(kind: str, runs: list[dict], unchanged: list[dict], noise: dict, check: Gate) -> dict:
    """A row of the table: how often each rule calls a run of this kind a regression."""
    accuracy, before = pd.DataFrame(runs)["accuracy"], pd.DataFrame(unchanged)["accuracy"]
    pairs = [(old, new) for old, new in itertools.product(unchanged, runs) if old is not new]
    groups = list(itertools.combinations(runs, min(TOGETHER, len(runs))))
    if len(groups) > GROUPS:
        groups = random.Random(0).sample(groups, GROUPS)  # noqa: S311
    baseline = {name: measured["mean"] for name, measured in noise["metrics"].items()}
    means = [(baseline, pd.DataFrame(group).mean().to_dict()) for group in groups]
    only_accuracy = Gate(sigmas=check.sigmas, metrics={"accuracy": {"better": "higher"}})
    return {
        "kind": kind,
        "runs": len(runs),
        "mean_accuracy": accuracy.mean(),
        "loss_of_accuracy": before.mean() - accuracy.mean(),
        "pairs": len(pairs),
        "by_accuracy_alone": share(pairs, noise, only_accuracy),
        "by_all_metrics": share(pairs, noise, check),
        "groups": len(means),
        "by_means": share(means, noise, check, runs_before=noise["runs"], runs_now=TOGETHER),
    }


def share(pairs: Iterable[tuple[dict, dict]], noise: dict, check: Gate, **runs: int) -> float:
    """Return the share of the pairs that `check` calls a regression.

    `runs` says of how many runs the two are means.
    """
    verdicts = [
        any(row.verdict == REGRESSION for row in judge_metrics(before, now, noise, check, **runs))
        for before, now in pairs
    ]
    return sum(verdicts) / len(verdicts)


if __name__ == "__main__":
    with exit_on_user_error("gate"):
        main()
