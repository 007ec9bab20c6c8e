"""Measure how often `make check` errs: `python -m bench.gate`.

Trains the committed params, and regressions of several kinds, with 20 seeds each in clean clones,
and scores all models as the gate does. Each of 1,000 checks of a kind then takes one of its runs as
the candidate, and others in random order as further seeds. A regression found is a false alarm if
nothing was changed, otherwise a detection. The baseline is metrics/noise.json. Writes
bench/results/gate.csv.

Scores are kept in .dvc/tmp/bench-gate, so that an interrupted measurement resumes. Remove that
folder if the pipeline has changed.
"""

import random
from pathlib import Path
from typing import Any

import pandas as pd

from fashion.core.files import write_csv
from fashion.core.params import PARAMS
from tools.arguments import expect_no_arguments
from tools.gate.config import Gate, gate_at
from tools.gate.noise import noise_at
from tools.gate.score import scorer_of
from tools.gate.sequential import REGRESSION, UNDECIDED, Analysis, compare, decide, plan_analyses
from tools.git import head
from tools.overrides import write_params
from tools.pipeline import clean_clone
from tools.process import command_line
from tools.tables import markdown

RUNS, TABLE = Path(".dvc/tmp/bench-gate"), Path("bench/results/gate.csv")
FIRST_SEED = 1000  # of unchanged runs: the baseline's seeds would give the baseline's bytes
SEEDS, CHECKS = 20, 1000  # of each kind
PREPARE = Path("stages/prepare.py")
SPLIT = '    chosen = {"train": ~in_validation, "validation": in_validation}\n'  # a line of it
BRIGHTEST = """
    pieces = iterate_idx(train_images, (len(labels), *dataset.image_shape))
    brightness = np.concatenate([piece.mean(axis=(1, 2)) for piece in pieces])
    some = np.flatnonzero(~in_validation & np.isin(labels, {classes}))
    some = some[np.argsort(brightness[some])[-len(some) // {one_of} :]]
    labels[some] = {new_labels}
"""
UNCHANGED = "unchanged"
KINDS: dict[str, dict[str, Any] | str] = {  # params, or code that runs after SPLIT
    UNCHANGED: {},
    "1 epoch": {"train.epochs": 1},
    "2 epochs": {"train.epochs": 2},
    "learning rate 0.01": {"train.learning_rate": 0.01},
    "batch size 2048": {"train.batch_size": 2048},
    "dropout 0.5": {"model.dropout": 0.5},
    "5 percent of labels wrong": """
    wrong = np.flatnonzero(~in_validation)[::20]
    labels[wrong] = (labels[wrong] + 1) % 10
""",
    "a tenth of the training data": """
    chosen["train"] &= np.cumsum(chosen["train"]) % 10 == 1
""",
    "half of the shirts": """
    shirts = chosen["train"] & (labels == 6)
    chosen["train"] &= ~(shirts & (np.cumsum(shirts) % 2 == 1))
""",
    "a random fifth of the bags labelled as boots": """
    bags = np.flatnonzero(~in_validation & (labels == 8))
    labels[bags[::5]] = 9
""",
    "the brightest fifth of the bags labelled as shirts": BRIGHTEST.format(
        classes=[8], one_of=5, new_labels=6
    ),
    "the brightest tenth of pullovers and coats swapped": BRIGHTEST.format(
        classes=[2, 4], one_of=10, new_labels="6 - labels[some]"
    ),
}


def main() -> None:
    expect_no_arguments("gate", __doc__)
    commit = head()
    gate = gate_at(commit)
    baseline = noise_at(commit)
    baseline = baseline[[*gate.rules_by_column(baseline)]]
    analyses = plan_analyses(baseline, gate.interim_runs, gate)
    rows = []
    for kind in KINDS:
        first = FIRST_SEED if kind == UNCHANGED else baseline.index[0]
        runs = train(kind, list(range(first, first + SEEDS)), commit)
        rows.append(summary(kind, runs, baseline, analyses, gate))
    write_csv(TABLE, pd.DataFrame(rows))
    print(markdown(pd.DataFrame(rows)), f"\n\nWritten: {TABLE}")


def train(kind: str, seeds: list[int], commit: str) -> pd.DataFrame:
    """Return the scores of runs of one kind: a row for each, with its seed as index."""
    path = RUNS / f"{kind}.csv"
    if not path.exists():
        print(f"{kind}: {len(seeds)} runs", flush=True)
        with scorer_of(commit) as scorer, clean_clone("bench", commit) as pipeline:
            change(pipeline.folder, KINDS[kind])
            pipeline.run(pipeline.data_stages)
            runs = scorer.measure(pipeline, seeds)
        write_csv(path, runs.reset_index())
    return pd.read_csv(path, index_col="seed")


def change(folder: Path, kind: dict[str, Any] | str) -> None:
    """Change a project by params or code. Raises ValueError if SPLIT does not occur once."""
    if isinstance(kind, dict):
        return write_params(kind, folder / PARAMS)
    start, end = (folder / PREPARE).read_text(encoding="utf-8").split(SPLIT)
    (folder / PREPARE).write_text(f"{start}{SPLIT}{kind}{end}", encoding="utf-8")


def summary(
    kind: str, runs: pd.DataFrame, baseline: pd.DataFrame, analyses: list[Analysis], gate: Gate
) -> dict:
    """Return a row of the table: what `make check` finds in changes of this kind."""
    shuffled = random.Random(0)  # noqa: S311
    findings, further, deciding = [], [], []
    for number in range(CHECKS):
        committed = runs.index[number % len(runs)]
        others = shuffled.sample([seed for seed in runs.index if seed != committed], len(runs) - 1)
        for at, analysis in enumerate(analyses):
            chosen = others[: analysis.runs] if at else [committed]
            finding, metric = decide(compare(baseline, runs.loc[chosen], gate, analysis))
            if finding != UNDECIDED:
                break
        findings.append(finding)
        further.append(analysis.runs if at else 0)
        deciding += [metric] if finding == REGRESSION else []
    losses = baseline.mean() - runs[baseline.columns].mean()
    classes = losses[[name for name in losses.index if name.startswith("class_f1/")]]
    return {
        "kind": kind,
        "runs": len(runs),
        "loss_of_accuracy": losses["accuracy"],
        "largest_loss_of_f1": classes.max(),
        "of_class": classes.idxmax().removeprefix("class_f1/"),
        "checks": CHECKS,
        "found": findings.count(REGRESSION),
        "mostly_by": pd.Series(deciding).mode()[0] if deciding else "",
        "further_seeds_mean": sum(further) / CHECKS,
        "further_seeds_most": max(further),
    }


if __name__ == "__main__":
    with command_line("gate"):
        main()
