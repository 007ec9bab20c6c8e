"""The pipeline of a commit in a clean clone, where it runs from the raw files.

`make check`, `make noise` and `make verify` share this. The clone has what Git tracks at the
commit, and nothing else of the project: no DVC settings, remotes, cache, run cache or experiments.
The stages' commands run one by one, in the order of dvc.yaml's graph; DVC reads that graph and
compares the results with dvc.lock.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fashion.core.errors import UserError
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from tools.dvc import DVC_YAML, model_artifacts
from tools.git import git, temporary_clone
from tools.overrides import write_params
from tools.process import run

# Files that a stage may not see: called with the clone's folder and the stage before it runs.
HiddenFiles = Callable[[Path, "Stage"], list[Path]]


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.yaml defines it. Paths are relative to the project."""

    name: str
    commands: list[str]
    folder: Path  # the one that its commands run in
    inputs: list[Path]
    params: list[str]
    outputs: list[Path]
    metrics: list[Path]  # those outputs that are metrics
    ancestors: frozenset[str]  # names of the stages that it depends on, directly or not

    def reads(self, path: Path) -> bool:
        return any(path.is_relative_to(entry) for entry in self.inputs)

    def makes(self, path: Path) -> bool:
        return any(path.is_relative_to(entry) for entry in self.outputs)


class Pipeline:
    """The stages of a clean clone, in the order in which they run, and the model they make.

    The model is the file that dvc.yaml's artifact of type model names: the one that users get.
    Raises UserError where dvc.yaml defines no such pipeline.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        with _dvc_repo(folder) as repo:
            self.stages = _read_stages(repo, folder)
        artifacts = model_artifacts(read_yaml(folder / DVC_YAML) or {})
        if len(artifacts) != 1:
            raise UserError(
                f"dvc.yaml names {len(artifacts)} artifacts of type model, and one is needed:"
                " the model that users get"
            )
        self.model = Path(artifacts[0])
        makers = [stage for stage in self.stages if stage.makes(self.model)]
        if not makers:
            raise UserError(f"no stage of dvc.yaml makes {self.model}, which its artifact names")
        self.model_stage = makers[0]

    @property
    def seed(self) -> int:
        """Return the seed in params.yaml. Raises UserError where there is none."""
        seed = read_yaml(self.folder / PARAMS).get("seed")
        if not isinstance(seed, int):
            raise UserError(f"{PARAMS} has no whole number as seed, and further seeds are needed")
        return seed

    def leading_to(self, *targets: Stage) -> list[Stage]:
        """Return the targets and all stages that they depend on, in order."""
        names = {target.name for target in targets}.union(*(target.ancestors for target in targets))
        return [stage for stage in self.stages if stage.name in names]

    @property
    def scoring_stages(self) -> list[Stage]:
        """Return the stages that read the model and write metrics."""
        return [stage for stage in self.stages if stage.metrics and stage.reads(self.model)]

    def files(self, folder: Path, stages: Iterable[Stage] | None = None) -> list[Path]:
        """Return the files in the outputs of stages, by default of all, as far as they exist."""
        outputs = [path for stage in stages or self.stages for path in stage.outputs]
        paths = [one for path in outputs for one in (folder / path, *(folder / path).rglob("*"))]
        return [path for path in paths if path.is_file()]

    def metrics(self, folder: Path, stages: Iterable[Stage] | None = None) -> dict[str, Any]:
        """Return what the metrics files of stages, by default of all, say.

        Raises UserError where one is no JSON object, or has a number that is not finite.
        """
        found = {}
        for path in [path for stage in stages or self.stages for path in stage.metrics]:
            try:
                content = dict(json.loads((folder / path).read_bytes()))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise UserError(f"{path} is no file of metrics: {error}") from None
            for name, value in content.items():
                is_bool = isinstance(value, bool)
                if isinstance(value, int | float) and not is_bool and not is_number(value):
                    raise UserError(f"{path}: {name} is {str(value)[:20]}, which is not finite")
            found |= content
        return found

    def tables(self, folder: Path, stages: Iterable[Stage] | None = None) -> list[pd.DataFrame]:
        """Return the CSV files of stages, by default of all; every value is text."""
        paths = [path for path in self.files(folder, stages) if path.suffix == ".csv"]
        try:
            return [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
        except ValueError as error:  # empty, not text, uneven rows
            raise UserError(f"one of {', '.join(x.name for x in paths)}: {error}") from None

    def run(
        self,
        stages: Iterable[Stage],
        folder: Path | None = None,
        hidden: HiddenFiles = lambda folder, stage: [],
    ) -> None:
        """Run stages, each with its outputs removed before and the `hidden` files taken away.

        `folder` is this clone, or a copy of it. Raises CommandFailed where a stage fails, and
        UserError where it does not write what it declares.
        """
        folder = folder or self.folder
        for stage in stages:
            for path in stage.outputs:
                _remove(folder / path)
            with _taken_away(folder, hidden(folder, stage)):
                for command in stage.commands:
                    words = ["/bin/sh", "-c", command]
                    run(words, folder / stage.folder, f"stage {stage.name} failed")
            if missing := [path for path in stage.outputs if not (folder / path).exists()]:
                names = ", ".join(map(str, missing))
                raise UserError(f"stage {stage.name} succeeded without writing {names}")

    def copy_to(self, folder: Path) -> None:
        """Copy the clone without what Git and DVC keep there. Raises UserError if it can't."""
        ignored = shutil.ignore_patterns(".git", ".dvc")
        try:
            shutil.copytree(self.folder, folder, symlinks=True, ignore=ignored)
        except shutil.Error as error:  # with the reason for each file
            source, _, reason = error.args[0][0]
            raise UserError(f"{source} can't be copied: {reason}") from None

    @contextmanager
    def variant(
        self,
        overrides: dict[str, Any],
        targets: list[Stage],
        hidden: HiddenFiles = lambda folder, stage: [],
    ) -> Iterator[Path]:
        """Yield a copy of the clone in which `targets` have run with other params.

        The stages that the params concern run there, and the model's; the rest of the data is
        copied. The copy is removed when the block ends.
        """
        name = "-".join(f"{key}-{value}" for key, value in overrides.items())[:60]
        copy = self.folder.with_name(f"{self.folder.name}-{name.replace('/', '-')}")
        try:
            self.copy_to(copy)
            write_params(overrides, copy / PARAMS)
            self.run(self._concerned(overrides, targets), copy, hidden)
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _concerned(self, overrides: dict[str, Any], targets: list[Stage]) -> list[Stage]:
        """Return the stages, of those that lead to `targets`, that the params concern."""
        names = set()
        for stage in self.leading_to(*targets):
            reads = any(f"{key}.".startswith(f"{p}.") for key in overrides for p in stage.params)
            if reads or stage == self.model_stage or stage.ancestors & names:
                names.add(stage.name)
        return [stage for stage in self.leading_to(*targets) if stage.name in names]

    def differences(self) -> dict[str, str]:
        """Return what is not as dvc.lock and Git have it after all stages ran: how, by path."""
        outputs = [str(path) for stage in self.stages for path in stage.outputs]
        found = {}
        with _dvc_repo(self.folder) as repo:
            # not `dvc status`, which looks at no output that is not in the cache
            for out in [out for stage in repo.index.stages for out in stage.outs]:
                for path, state in out.workspace_status().items():
                    found[path] = "is missing" if state == "deleted" else "is different"
            changes = [change for stage in repo.status().values() for change in stage]
        for change in changes:
            if isinstance(change, str):
                found["dvc.yaml"] = f"does not belong to dvc.lock: {change}"
            else:
                paths = set().union(*change.values()) - set(outputs)
                found |= dict.fromkeys(paths, "is not the one that dvc.lock was written with")
        words = ("diff", "--name-only", "-z", "HEAD", "--", *outputs)
        in_git = git("-C", str(self.folder), *words).split("\0")[:-1]
        return dict.fromkeys(in_git, "is not the one in Git") | found


def is_number(value: Any) -> bool:
    """Whether a value is a finite number of a size that a float can have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


@contextmanager
def clean_clone(kind: str, commit: str) -> Iterator[Pipeline]:
    """Yield the pipeline of a commit in a clone without DVC settings and cache.

    The clone is removed when the block ends.
    """
    with temporary_clone(kind, commit) as folder:
        _remove(folder / ".dvc")
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
        yield Pipeline(folder)


def _dvc_repo(folder: Path) -> Any:
    from dvc.exceptions import DvcException  # slow, so only where it is needed
    from dvc.repo import Repo

    @contextmanager
    def opened() -> Iterator[Repo]:
        logging.getLogger("dvc").setLevel(logging.ERROR)  # a note on each frozen stage
        own = {"core": {"site_cache_dir": str(folder / ".dvc/tmp/site")}}
        try:
            with Repo(str(folder), config=own) as repo:
                yield repo
        except DvcException as error:
            text = str(error).replace(f"{folder}/", "").replace(f"./{os.path.relpath(folder)}/", "")
            raise UserError(f"dvc.yaml or dvc.lock can't be read: {text}") from None

    return opened()


def _read_stages(repo: Any, folder: Path) -> list[Stage]:
    """Return the stages of a DVC repository, each after those that it depends on."""
    import networkx
    from dvc.dependency import ParamsDependency

    graph = repo.index.graph  # from each stage to those that it depends on
    order = {stage: number for number, stage in enumerate(repo.index.stages)}

    def inside(entry: Any) -> Path:
        return Path(os.path.relpath(entry.fs_path, folder))

    def name_of(stage: Any) -> str:
        path = os.path.relpath(stage.path, folder)
        name = getattr(stage, "name", "")
        return name if path == "dvc.yaml" else f"{path}:{name}"

    stages = []
    for stage in networkx.lexicographical_topological_sort(graph.reverse(), order.get):
        if not stage.cmd:
            raise UserError(f"{name_of(stage)} has no command, so it can't be run from scratch")
        files = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
        params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        outputs = [inside(out) for out in stage.outs]
        if outside := [path for path in outputs if path.parts[0] == ".."]:
            raise UserError(f"stage {name_of(stage)} writes {outside[0]}, outside of the project")
        stages.append(
            Stage(
                name_of(stage),
                [stage.cmd] if isinstance(stage.cmd, str) else list(stage.cmd),
                Path(os.path.relpath(stage.wdir, folder)),
                [inside(dep) for dep in files],
                [name for dep in params for name in dep.params],
                outputs,
                [inside(out) for out in stage.outs if out.metric],
                frozenset(map(name_of, networkx.descendants(graph, stage))),
            )
        )
    return stages


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _taken_away(folder: Path, files: list[Path]) -> Iterator[None]:
    """Move files out of a clone while the block lasts."""
    store = folder.with_name(f"{folder.name}-hidden")
    moves = [(path, store / str(number)) for number, path in enumerate(files)]
    store.mkdir()
    try:
        for path, place in moves:
            path.rename(place)
        yield
    finally:
        for path, place in moves:
            if place.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                place.rename(path)
        store.rmdir()
