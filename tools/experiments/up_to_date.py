"""Find out which experiments are up to date, and run the others."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from flatten_dict import flatten

from fashion.core.errors import UserError
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from tools.dvc import (
    DVC_YAML,
    cached_file,
    dvc_repo,
    list_experiments,
    lock_at,
    output_hashes,
    status,
)
from tools.experiments.backend import Backend, ExperimentSpec
from tools.experiments.config import EXPERIMENTS
from tools.experiments.local import LocalBackend
from tools.experiments.results import Result
from tools.experiments.runner import experiments_lock, run_parallel
from tools.fsck import remove_corrupted, repair_cache, verified_repro
from tools.git import commit_workspace, git, is_shallow, yaml_at
from tools.overrides import replace_params, with_overrides


class ReplacementRefused(UserError):
    """Uncommitted changes would replace experiments of the commit."""


def inputs_at(commit: str, params: dict | None = None) -> dict[str, dict[str, Any]]:
    """Return what results depend on at a commit: declared code and files, and params.

    "code" has Git's mode and hash by path, "params" the values by dotted name. `params` is the
    content of the params file, by default as committed.
    """
    listing = git("ls-tree", "-r", "-z", commit, "--", *declared_files()).split("\0")[:-1]
    code = {path: entry for entry, path in (line.split("\t", 1) for line in listing)}
    return {"code": code, "params": flatten(params or yaml_at(commit, PARAMS), reducer="dot")}


def declared_files() -> list[str]:
    """Return dvc.yaml and the dependencies that no stage writes, without the params file."""
    if not DVC_YAML.exists():
        raise UserError(f"{DVC_YAML}: no such file. `git checkout {DVC_YAML}` restores it")
    return _declared_files(Path.cwd(), DVC_YAML.read_bytes())


@cache
def _declared_files(project: Path, _content: bytes) -> list[str]:
    with dvc_repo(project) as repo:
        stages, outputs = repo.index.stages, {out.fs_path for out in repo.index.outs}
    definitions = {stage.path for stage in stages}  # dvc.yaml and others
    paths = definitions.union(*([dep.fs_path for dep in stage.deps] for stage in stages)) - outputs
    return sorted({os.path.relpath(path, project) for path in paths} - {str(PARAMS)})


def describe_changes(commit: str) -> list[str]:
    """Return how the workspace's inputs differ from a commit's: params with both values, paths."""
    before, after = inputs_at(commit), inputs_at(commit_workspace())
    old, new = before["params"], after["params"]
    names = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    paths = sorted({path for path, _ in before["code"].items() ^ after["code"].items()})
    return [f"{name}: {old.get(name)} -> {new.get(name)}" for name in names] + paths


def check_workspace() -> None:
    """Remove corrupted files from DVC's cache, so that they are made again.

    Raises UserError if the clone is shallow, or declared files are deleted or untracked.
    """
    repair_cache()
    if is_shallow():
        raise UserError(
            "this clone is shallow, and DVC keeps no experiments in one."
            " `git fetch --unshallow` brings the rest"
        )
    if deleted := git("ls-files", "--deleted", "-z", "--", *declared_files()).split("\0")[:-1]:
        raise UserError(
            f"{', '.join(deleted)}: no such file. `git checkout {deleted[0]}` restores it"
        )
    listing = ("--others", "--exclude-per-directory=.gitignore", "-z", "--", *declared_files())
    if untracked := git("ls-files", *listing).split("\0")[:-1]:
        raise UserError(
            f"Git does not track {', '.join(untracked)}, so experiments would run without it."
            " `git add` it, or remove it"
        )


def is_up_to_date(commit: str, name: str, inputs: dict[str, dict[str, Any]]) -> bool:
    """Return whether an experiment of the commit is the result of these inputs.

    DVC's cache must have its files, too; corrupted ones are removed first.
    """
    revision = list_experiments(commit).get(name)
    if not revision or inputs_at(revision) != inputs:
        return False
    in_git = git("ls-tree", "-r", "--name-only", "-z", revision).split("\0")
    outputs = output_hashes(lock_at(revision))
    remove_corrupted({cached_file(md5): md5 for md5 in outputs.values()})
    for path, md5 in outputs.items():
        if path not in in_git and not cached_file(md5).exists():
            print(f"{name}: {path} is not in DVC's cache any more, so the experiment runs again")
            return False
    return True


def run_missing(
    planned: dict[str, dict[str, Any]],
    jobs: int | None = None,
    backend: Backend | None = None,
    may_replace: bool = False,
) -> dict[str, Result]:
    """Run the planned experiments that are not up to date; return the results of all.

    `planned` has the params that each experiment sets, by its name. Raises ReplacementRefused if
    uncommitted changes would replace experiments of the commit, unless `may_replace` allows it.
    """
    raw_params = read_yaml(PARAMS)
    params = {
        name: with_overrides(raw_params, overrides, f"{EXPERIMENTS}: {name}")
        for name, overrides in planned.items()
    }
    with experiments_lock():
        check_workspace()
        backend = backend or LocalBackend()

        def is_pending(spec: ExperimentSpec) -> bool:
            inputs = inputs_at(backend.workspace, params[spec.name])
            return not is_up_to_date(backend.commit, spec.name, inputs)

        specs = [ExperimentSpec(name, overrides) for name, overrides in planned.items()]
        pending = [spec for spec in specs if is_pending(spec)]
        for spec in specs:
            if spec not in pending:
                print(f"{spec.name}: up to date")
        if pending:
            announce_changes(backend.commit, [] if may_replace else pending)
            prepare_data()
            # the longest first, so that none is left alone at the end
            pending.sort(key=lambda spec: -params[spec.name]["train"]["epochs"])
            run_parallel(pending, backend, jobs)
            # DVC may have restored corrupted files from its cache, which are removed now
            if again := [spec for spec in pending if is_pending(spec)]:
                run_parallel(again, backend, jobs)
    revisions = list_experiments(backend.commit)
    return {name: Result(name, revisions[name]) for name in planned}


def prepare_data() -> None:
    """Write raw and prepared data once; experiments share them through DVC's cache."""
    if status("prepare"):
        verified_repro("prepare")


def announce_changes(commit: str, pending: list[ExperimentSpec]) -> None:
    """Print which inputs have uncommitted changes.

    Raises ReplacementRefused if a pending experiment exists with the committed inputs: the new
    result would take its name and commit, and it would be lost.
    """
    if not (changes := "; ".join(describe_changes(commit))):
        return
    committed, existing, lost = yaml_at(commit, PARAMS), list_experiments(commit), []
    for spec in [spec for spec in pending if spec.name in existing]:
        try:
            params = replace_params(committed, spec.overrides, spec.name)
        except UserError:  # the commit does not have all of these params
            continue
        if inputs_at(existing[spec.name]) == inputs_at(commit, params):
            accuracy = Result(spec.name, existing[spec.name]).test["accuracy"]
            lost.append(f"{spec.name} (test accuracy {accuracy:.4f})")
    if lost:
        raise ReplacementRefused(
            f"uncommitted changes ({changes}) would replace {', '.join(lost)}."
            " Commit them to keep both; `git stash` puts them aside;"
            ' `make experiments ARGS="--replace"` replaces'
        )
    print(
        f"Not committed: {changes}. The experiments run with these changes, but DVC keeps them with"
        f" commit {commit[:7]}. Commit first if others should find them with the code that made"
        " them."
    )
