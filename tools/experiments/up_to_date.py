"""Which experiments have to be run, since they are not there yet or out of date; and run them."""

import hashlib
import json
from typing import Any

from flatten_dict import flatten

from fashion.core.errors import UserError
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from fashion.model.environment import is_native_by_choice, is_x86_64, native_arithmetic
from tools.dvc import DVC_YAML, dvc, status
from tools.dvc_lock import lock_at
from tools.experiments.backend import Backend, ExperimentSpec
from tools.experiments.results import Result
from tools.experiments.runner import experiments_lock, run_parallel
from tools.fsck import cache_folder, verify_cache
from tools.git import git, head, is_shallow, list_experiments, yaml_at
from tools.overrides import with_overrides

# what makes the results, beside params.yaml
PIPELINE = ["dvc.yaml", "dataset.yaml", "stages", "fashion"]


class ReplacementRefused(UserError):
    """What is not committed would replace experiments of the commit."""


def run_missing(
    planned: dict[str, dict[str, Any]],
    raw_params: dict,
    jobs: int | None = None,
    backend: Backend | None = None,
    replace: bool = False,
) -> dict[str, Result]:
    """Run those of the planned experiments that are not up to date; return the results of all.

    `planned` has the params that each experiment sets, by its name; `raw_params` is the content of
    the params file that they start from. Raises UserError where changes that are not committed
    would replace experiments of the commit, unless `replace` allows it.
    """
    with experiments_lock():
        commit = head()
        check_working_copy()
        pending = []
        for name, params in _params_of(planned, raw_params).items():
            if is_up_to_date(commit, name, params):
                print(f"{name}: up to date")
            else:
                pending.append(ExperimentSpec(name, planned[name], retrain=is_native_by_choice()))
        if pending:
            if not replace:
                refuse_to_replace(commit, {spec.name: planned[spec.name] for spec in pending})
            if changes := describe_changes(commit):
                print(
                    f"Not committed: {'; '.join(changes)}. The experiments run with this; DVC keeps"
                    f" them with commit {commit[:7]} all the same."
                    " Commit first if others are to find them with what made them."
                )
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
    new = {spec.name for spec in pending}
    return {name: Result(name, kept[name], name in new) for name in planned}


def _params_of(planned: dict[str, dict[str, Any]], raw_params: dict) -> dict[str, dict]:
    return {
        name: with_overrides(raw_params, overrides, name) for name, overrides in planned.items()
    }


def prepare_data(backend: Backend | None = None) -> None:
    """Make raw and prepared data once, to be shared through DVC's cache, or by another backend."""
    verify_cache()
    if status("prepare"):
        dvc("repro", "prepare")
    if backend:
        dvc("push")


def refuse_to_replace(commit: str, planned: dict[str, dict[str, Any]]) -> None:
    """Raise ReplacementRefused where one of the experiments is kept as the commit makes it.

    It would be lost, under its name and commit, to one that the commit does not make.
    """
    changes = describe_changes(commit)
    if not changes:
        return
    committed = yaml_at(commit, PARAMS)
    lost = []
    for name, revision in list_experiments(commit).items():
        if name in planned and is_made_from(
            revision, commit, with_overrides(committed, planned[name], name)
        ):
            accuracy = Result(name, revision).test["accuracy"]
            lost.append(f"{name} (test accuracy {accuracy:.4f})")
    if lost:
        raise ReplacementRefused(
            f"what is not committed ({'; '.join(changes)}) would replace {', '.join(lost)}."
            " Commit it to keep both; `git stash` puts it aside;"
            ' `make experiments ARGS="--replace"` replaces them'
        )


def describe_changes(commit: str) -> list[str]:
    """Say what of the pipeline differs from the commit: params with both values, files by name."""
    files = git("diff", "--name-only", commit, "--", *PIPELINE).split()
    before, now = yaml_at(commit, PARAMS), read_yaml(PARAMS)
    old, new = flatten(before, reducer="dot"), flatten(now, reducer="dot")
    params = [
        f"{name}: {old.get(name)} -> {new.get(name)}"
        for name in old | new
        if old.get(name) != new.get(name)
    ]
    return params + files


def check_working_copy() -> None:
    """Raise UserError on code that experiments would not see, and where DVC would not keep them."""
    if is_shallow():
        raise UserError(
            "this clone is shallow, and DVC keeps no experiments in one."
            " `git fetch --unshallow` brings the rest"
        )
    untracked = git("ls-files", "--others", "--exclude-standard", "--", *PIPELINE).split()
    if untracked:
        raise UserError(
            f"Git does not track {', '.join(untracked)}, so experiments would run without."
            " `git add` it, or remove it"
        )


def is_up_to_date(commit: str, name: str, raw_params: dict) -> bool:
    """Whether an experiment is kept with the commit, made from these params and the code as it is.

    And with the arithmetic chosen now, and with all its files in DVC's cache.
    """
    revision = list_experiments(commit).get(name)
    if not revision or not is_made_from(revision, None, raw_params):
        return False
    if missing := missing_outputs(revision):
        print(f"{name}: {', '.join(missing)} is not in DVC's cache any more, so it is run again")
        return False
    return has_our_arithmetic(revision)


def is_made_from(revision: str, commit: str | None, raw_params: dict) -> bool:
    """Whether an experiment was made from these params and the code of a commit.

    Without a commit, from the code as it is in the working copy.
    """
    before = yaml_at(revision, PARAMS)
    code = [revision, commit] if commit else [revision]
    return pipeline_params(before) == pipeline_params(raw_params) and not git(
        "diff", "--name-only", *code, "--", *PIPELINE
    )


def missing_outputs(revision: str) -> list[str]:
    """Return the outputs of a revision that DVC should have in its cache and has not."""
    cache = cache_folder() / "files/md5"
    stages = lock_at(revision).values()
    in_git = set(git("ls-tree", "-r", "--name-only", revision).splitlines())
    return [
        out["path"]
        for stage in stages
        for out in stage.get("outs", [])
        if out["path"] not in in_git and not (cache / out["md5"][:2] / out["md5"][2:]).exists()
    ]


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
    stages = read_yaml(DVC_YAML)["stages"].values()
    params = [param for stage in stages for param in stage.get("params", [])]
    if any(isinstance(param, dict) for param in params):  # a whole file
        return values
    sections = {param.split(".")[0] for param in params}
    return {name: value for name, value in values.items() if name in sections}
