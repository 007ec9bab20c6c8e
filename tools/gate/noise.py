"""Measure how much the metrics vary over seeds while nothing else changes: `make noise`.

Trains HEAD with many seeds in a clean clone, scores each model as `make check` does, and writes all
numbers into metrics/noise.json. Commit that file: checks of later changes then need not train the
baseline again.
"""

import json
import re
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field, FiniteFloat, model_validator

from fashion.core.errors import UserError
from fashion.core.files import atomic_write
from fashion.core.params import Seed
from fashion.core.strict_yaml import Name, StrictModel, check_config
from tools.arguments import at_least, parser_of
from tools.dvc import pipeline_hashes
from tools.gate.config import Gate
from tools.gate.score import ROUNDING, Scorer, scorer_of
from tools.git import file_at, git, head
from tools.process import command_line

NOISE = Path("metrics/noise.json")
SEEDS = 30  # by default
MIN_SEEDS = 5  # fewer show too little of how much metrics vary
OUTLIER = 4  # standard deviations over seeds, which chance hardly explains


class Noise(StrictModel):
    """The content of metrics/noise.json: the numbers of runs that differ only in their seed."""

    belongs_to: dict[Name, Name]  # `pipeline_hashes` of the commit that was measured
    seeds: Annotated[list[Seed], Field(min_length=MIN_SEEDS)]
    metrics: dict[Name, list[FiniteFloat]]  # a value per seed, in this order

    @model_validator(mode="after")
    def _is_complete(self) -> "Noise":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed occurs twice")
        for name, values in self.metrics.items():
            if len(values) != len(self.seeds):
                raise ValueError(f"{name} has {len(values)} values for {len(self.seeds)} seeds")
        return self

    @property
    def table(self) -> pd.DataFrame:
        """Return the metrics, a row per seed, which is the index."""
        return pd.DataFrame(self.metrics, index=pd.Index(self.seeds, name="seed"))


def parse_noise(text: str | bytes, source: str) -> Noise:
    """Return the checked content of a noise.json. Raises UserError naming `source` and the key."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not JSON: {error}. `make noise` measures it again") from None
    return check_config(content, source, Noise)


def noise_at(revision: str, gate: Gate | None = None, scorer: Scorer | None = None) -> pd.DataFrame:
    """Return the runs in a revision's metrics/noise.json, a row per seed, which is the index.

    Raises UserError if there is none; if it belongs to other code, params or data; if a metric of
    `gate` is missing; or if the run with the revision's own seed differs from the metrics committed
    there, which the revision's `scorer` knows.
    """
    source = f"{NOISE} of {revision[:7]}"
    if not git("ls-tree", "--name-only", revision, str(NOISE)):
        raise UserError(f"there is no {source}, which `make noise` writes")
    noise = parse_noise(file_at(revision, NOISE), source)
    hashes = pipeline_hashes(revision)
    if other := [name for name in hashes if hashes[name] != noise.belongs_to.get(name)]:
        raise UserError(f"{source} was measured with other {', '.join(other)}")
    table = noise.table
    columns = gate.rules_by_column(table) if gate else {}
    if gate and (lacking := gate.metrics.keys() - {name.split("/")[0] for name in columns}):
        raise UserError(f"{source} does not have {', '.join(sorted(lacking))}")
    if scorer and scorer.pipeline.seed in table.index:
        own = table.loc[scorer.pipeline.seed]
        for name in [name for name in columns if name in scorer.claims]:
            # training's validation loss is clipped
            if name != "val_loss" and not abs(own[name] - scorer.claims[name]) <= ROUNDING:
                raise UserError(f"{source} contradicts the {name} that is committed there")
    return table


def write_noise(table: pd.DataFrame, belongs_to: dict[str, str]) -> None:
    """Write metrics/noise.json with six decimals; `table` has a row per seed, the index."""
    metrics = table.round(6).to_dict("list")
    content = {"belongs_to": belongs_to, "seeds": table.index.tolist(), "metrics": metrics}
    lists_in_a_line = re.sub(r"\n +(?=[-\d\]])", " ", json.dumps(content, indent=2))
    with atomic_write(NOISE) as tmp_path:
        tmp_path.write_text(f"{lists_in_a_line}\n", encoding="utf-8")


def main() -> None:
    parser = parser_of("noise", __doc__)
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=at_least(MIN_SEEDS),
        default=SEEDS,
        help=f"number of seeds (default: {SEEDS})",
    )
    count, commit = parser.parse_args().seeds, head()
    if git("status", "--porcelain", "--untracked-files=no"):
        print("HEAD is measured, without the uncommitted changes.", flush=True)
    with scorer_of(commit) as scorer:
        first = scorer.pipeline.seed
        table = scorer.measure(scorer.pipeline, list(range(first, first + count)))
    write_noise(table, pipeline_hashes(commit))
    summary = table[[name for name in table if "/" not in name]].agg(["mean", "std"]).T
    print(f"{summary.to_markdown(floatfmt='.4f')}\n\nWritten: {NOISE}, with {count} runs")


if __name__ == "__main__":
    with command_line("noise"):
        main()
