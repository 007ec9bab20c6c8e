"""Measure how much the metrics vary over seeds while nothing else changes: `make noise`.

Trains HEAD with many seeds in a clean clone, scores each model as `make check` does, and writes all
numbers into metrics/noise.json. Commit that file: checks of later changes then need not train the
baseline again.
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field, FiniteFloat, model_validator

from fashion.core.errors import UserError
from fashion.core.files import write_json
from fashion.core.params import Seed
from fashion.core.strict_yaml import Name, StrictModel, check_config
from tools.arguments import at_least, parser_of
from tools.dvc import pipeline_hashes
from tools.gate.score import scorer_of
from tools.git import git, head, yaml_at
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
        if {len(self.seeds)} != {len(set(self.seeds)), *map(len, self.metrics.values())}:
            raise ValueError("metrics must have a value for each seed, and each seed occurs once")
        return self


def noise_at(revision: str, data: str | None = None) -> pd.DataFrame:
    """Return the runs in a revision's metrics/noise.json, a row per seed, which is the index.

    Raises UserError if there is none; if it is not complete; or if it belongs to other code, params
    or data than the revision, or to other data than `data`, another revision.
    """
    source = f"{NOISE} of {revision[:7]}"
    if not git("ls-tree", "--name-only", revision, str(NOISE)):
        raise UserError(f"there is no {source}, which `make noise` writes")
    noise = check_config(yaml_at(revision, NOISE), source, Noise)
    hashes = pipeline_hashes(revision)
    hashes |= {"data": pipeline_hashes(data)["data"]} if data else {}
    if other := [name for name in hashes if hashes[name] != noise.belongs_to.get(name)]:
        raise UserError(f"{source} was measured with other {', '.join(other)}")
    return pd.DataFrame(noise.metrics, index=pd.Index(noise.seeds, name="seed"))


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
    content = {"belongs_to": pipeline_hashes(commit), "seeds": table.index.tolist()}
    write_json(NOISE, content | {"metrics": table.to_dict("list")})
    summary = table[[name for name in table if "/" not in name]].agg(["mean", "std"]).T
    print(f"{summary.to_markdown(floatfmt='.4f')}\n\nWritten: {NOISE}, with {count} runs")


if __name__ == "__main__":
    with command_line("noise"):
        main()
