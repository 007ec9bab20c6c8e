"""How often does `make check` err?  `python -m bench.gate`

Trains the committed params with many seeds, and regressions of several kinds with some each, in
clean clones, and scores all models as the gate does. Each check then draws seeds: a run that was
committed and as many others of the same kind as the rules ask for. A regression found is a false
alarm among unchanged runs, a detection among others. The baseline is metrics/noise.json. What was
trained is kept in .dvc/tmp/bench-gate, so that an interrupted measurement goes on.
"""

import random
from pathlib import Path

import pandas as pd

from bench.regressions import REGRESSIONS, Regression
from fashion.core.files import write_csv
from tools.arguments import at_least, parser_of
from tools.gate.config import Gate, gate_at
from tools.gate.noise import noise_at
from tools.gate.score import scorer_of
from tools.gate.sequential import REGRESSION, UNDECIDED, Analysis, compare, decide, plan_analyses
from tools.git import head
from tools.pipeline import clean_clone
from tools.process import command_line

RUNS, TABLE = Path(".dvc/tmp/bench-gate"), Path("bench/results/gate.csv")
UNCHANGED = Regression("unchanged")
FIRST_SEED = 1000  # of unchanged runs: the baseline's seeds would give the baseline's bytes
CHECKS = 1000  # of each kind


def main() -> None:
    parser = parser_of("gate", __doc__)
    parser.add_argument(
        "--seeds", metavar="N", type=at_least(9), default=20, help="of each kind (default: 20)"
    )
    seeds, commit = parser.parse_args().seeds, head()
    gate = gate_at(commit)
    baseline = noise_at(commit, gate)
    baseline = baseline[[*gate.rules_by_column(baseline)]]
    analyses = plan_analyses(baseline, gate.interim_runs, gate)
    rows = []
    for kind in [UNCHANGED, *REGRESSIONS]:
        first = FIRST_SEED if kind == UNCHANGED else baseline.index[0]
        runs = train(kind, list(range(first, first + seeds)), commit)
        rows.append(summary(kind.name, runs, baseline, analyses, gate))
    write_csv(TABLE, pd.DataFrame(rows))
    print(pd.DataFrame(rows).to_markdown(index=False), f"\n\nWritten: {TABLE}")


def train(kind: Regression, seeds: list[int], commit: str) -> pd.DataFrame:
    """Return the scores of runs of one kind, a row a run with its seed as index."""
    path = RUNS / f"{kind.name}.csv"
    if not path.exists():
        print(f"{kind.name}: {len(seeds)} runs", flush=True)
        with scorer_of(commit) as scorer, clean_clone("bench", commit) as pipeline:
            kind.apply(pipeline.folder)
            pipeline.run(pipeline.data_stages)
            runs = scorer.measure(pipeline, seeds)
        RUNS.mkdir(parents=True, exist_ok=True)
        write_csv(path, runs.reset_index())
    return pd.read_csv(path, index_col="seed")


def summary(
    kind: str, runs: pd.DataFrame, baseline: pd.DataFrame, analyses: list[Analysis], gate: Gate
) -> dict:
    """Return a row of the table: what `make check` says of a change of this kind."""
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
