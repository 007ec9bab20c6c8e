"""Which experiments have to be run, since they are not there yet or out of date; and run them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fashion.environment import is_native_by_choice, is_x86_64, native_arithmetic
from fashion.errors import UserError
from fashion.strict_yaml import parse_yaml
from stages.params import PARAMS
from tools.dvc import dvc
from tools.experiments.backend import Backend, ExperimentSpec
from tools.experiments.results import Result
from tools.experiments.runner import experiments_lock, run_parallel
from tools.fsck import verify_cache
from tools.git import git, head, is_unchanged, list_experiments
from tools.overrides import with_overrides

# what makes the results, beside params.yaml
PIPELINE = ["dvc.yaml", "dataset.yaml", "stages", "fashion"]


def run_missing(
    planned: dict[str, dict[str, Any]],
    raw_params: dict,
    jobs: int | None = None,
    backend: Backend | None = None,
) -> dict[str, Result]:
    """Run those of the planned experiments that are not up to date; return the results of all.

    `planned` has the params that each experiment sets, by its name; `raw_params` is the content of
    the params file that they start from.
    """
    with experiments_lock():
        commit = head()
        check_working_copy(commit)
        pending = []
        for name, params in _params_of(planned, raw_params).items():
            if is_up_to_date(commit, name, params):
                print(f"{name}: up to date")
            else:
                pending.append(ExperimentSpec(name, planned[name], retrain=is_native_by_choice()))
        if pending:
            prepare_data(backend)
            if head() != commit:
                raise UserError("the commit changed while the data was prepared. Run it again")
            epochs = {
                name: params["train"]["epochs"]
                for name, params in _params_of(planned, raw_params).items()
            }
            # the longest first, so that none is left alone at the end
            pending.sort(key=lambda spec: -epochs[spec.name])
            run_parallel(pending, jobs, backend=backend)
            kept = list_experiments(commit)
            # DVC had them in its run cache, which does not know the difference
            cached = [spec for spec in pending if not has_our_arithmetic(kept[spec.name])]
            if cached:
                again = [ExperimentSpec(spec.name, spec.overrides, retrain=True) for spec in cached]
                run_parallel(again, jobs, backend=backend)
    kept = list_experiments(commit)
    return {name: Result(name, kept[name]) for name in planned}


def _params_of(planned: dict[str, dict[str, Any]], raw_params: dict) -> dict[str, dict]:
    return {
        name: with_overrides(raw_params, overrides, name) for name, overrides in planned.items()
    }


def prepare_data(backend: Backend | None = None) -> None:
    """Make raw and prepared data once, to be shared through DVC's cache, or by another backend."""
    verify_cache()
    dvc("repro", "prepare")
    if backend:
        dvc("push")


def check_working_copy(commit: str) -> None:
    """Say so where the experiments are made from more than the commit.

    Raises UserError on code that they would not see.
    """
    untracked = git("ls-files", "--others", "--exclude-standard", "--", *PIPELINE).split()
    if untracked:
        raise UserError(
            f"Git does not track {', '.join(untracked)}, so experiments would run without."
            " `git add` it, or remove it"
        )
    changed = git("diff", "--name-only", "HEAD", "--", *PIPELINE, str(PARAMS)).split()
    if changed:
        print(
            f"Not committed: {', '.join(changed)}. The experiments run with these changes;"
            f" DVC keeps them with commit {commit[:7]} all the same."
            " Commit first if others are to find them with the code that made them."
        )


def is_up_to_date(commit: str, name: str, raw_params: dict) -> bool:
    """Whether an experiment is kept with the commit, made from these params and the code as it is.

    And with the arithmetic chosen now.
    """
    revision = list_experiments(commit).get(name)
    if not revision:
        return False
    before = parse_yaml(git("show", f"{revision}:{PARAMS}"))
    return (
        pipeline_params(before) == pipeline_params(raw_params)
        and is_unchanged(revision, *PIPELINE)
        and has_our_arithmetic(revision)
    )


def has_our_arithmetic(revision: str) -> bool:
    """Tell whether an experiment was computed as this process would.

    That is portably, or as the user's environment variables say. Where there is no choice, on
    another machine than x86-64, all that is there will do.
    """
    recorded = json.loads(git("show", f"{revision}:metrics/train.json")).get("arithmetic")
    return not is_x86_64() or recorded == native_arithmetic()


def pipeline_code() -> str:
    """A fingerprint of the code that makes the results, as it is in the working copy."""
    trees, changes = (
        git("rev-parse", *(f"HEAD:{path}" for path in PIPELINE)),
        git("diff", "HEAD", "--", *PIPELINE),
    )
    return hashlib.sha256((trees + changes).encode()).hexdigest()


def pipeline_params(values: dict) -> dict:
    """The sections of a params file that stages read, as dvc.yaml declares."""
    stages = parse_yaml(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    sections = {param.split(".")[0] for stage in stages for param in stage.get("params", [])}
    return {name: value for name, value in values.items() if name in sections}
