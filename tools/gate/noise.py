"""Measure how much the metrics vary over seeds while nothing else changes: `make noise`.

Trains HEAD with many seeds in a clean clone, scores each model as `make check` does, and writes all
numbers into metrics/noise.json. Commit it: the checks of later changes then need not train the
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
from tools.gate.score import scorer_of
from tools.git import git, git_bytes, head
from tools.pipeline import clean_clone
from tools.process import command_line

NOISE = Path("metrics/noise.json")
SEEDS = 30  # by default
MIN_SEEDS = 5  # fewer say too little about how much metrics vary


class Noise(StrictModel):
    """metrics/noise.json: the numbers of runs that differ in their seed alone."""

    belongs_to: dict[Name, Name]  # what `pipeline_hashes` returned where it was measured
    seeds: Annotated[list[Seed], Field(min_length=MIN_SEEDS)]
    metrics: dict[Name, list[FiniteFloat]]  # of the run with each seed, in this order

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
        """Return the metrics, a row a run with its seed as index."""
        return pd.DataFrame(self.metrics, index=pd.Index(self.seeds, name="seed"))


def parse_noise(text: str | bytes, source: str) -> Noise:
    """Check the content of a metrics/noise.json. Raises UserError naming `source` and the key."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not JSON: {error}. `make noise` measures it again") from None
    return check_config(content, source, Noise)


def noise_at(revision: str) -> Noise:
    """Return the noise of a revision.

    Raises UserError where there is none, or it belongs to other code, params or data.
    """
    source = f"{NOISE} of {revision[:7]}"
    if not git("ls-tree", "--name-only", revision, str(NOISE)):
        raise UserError(f"there is no {source}")
    noise = parse_noise(git_bytes("show", f"{revision}:{NOISE}"), source)
    hashes = pipeline_hashes(revision)
    if other := [name for name in hashes if hashes[name] != noise.belongs_to.get(name)]:
        raise UserError(f"{source} was measured with other {', '.join(other)}")
    return noise


def write_noise(table: pd.DataFrame, belongs_to: dict[str, str]) -> None:
    """Write metrics/noise.json: the table of runs, a row a seed, with six decimals."""
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
        help=f"how many (default: {SEEDS})",
    )
    count, commit = parser.parse_args().seeds, head()
    if git("status", "--porcelain", "--untracked-files=no"):
        print("Uncommitted changes are not part of it: noise is that of HEAD.", flush=True)
    with scorer_of(commit) as scorer, clean_clone("noise", commit) as pipeline:
        stages = pipeline.leading_to(pipeline.model_stage)
        pipeline.run([stage for stage in stages if stage != pipeline.model_stage])
        first = pipeline.seed
        table = scorer.measure(pipeline, list(range(first, first + count)))
    write_noise(table, pipeline_hashes(commit))
    summary = table[[name for name in table if "/" not in name]].agg(["mean", "std"]).T
    print(f"{summary.to_markdown(floatfmt='.4f')}\n\nWritten: {NOISE}, of {count} runs")


if __name__ == "__main__":
    with command_line("noise"):
        main()
