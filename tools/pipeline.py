"""Run the pipeline of a commit from the raw files, in a clean clone.

`make check`, `make noise` and `make verify` share this. The clone has only the files that Git
tracks at the commit: no DVC settings, remotes, cache, run cache or experiments. The commands of the
stages run one by one, in the order of dvc.yaml's graph. DVC reads that graph and compares the
results with dvc.lock.
"""

import fnmatch
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from fashion.core.errors import UserError
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from tools.dvc import DVC_YAML, dvc_repo, model_artifacts
from tools.git import DELETED, changed_paths, file_at, git, temporary_clone
from tools.overrides import write_params
from tools.process import run

PINS = "fashion/*/requirements.txt"  # the packages without which a stage refuses to run


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.yaml defines it. Paths are relative to the project."""

    name: str
    commands: list[str]
    folder: Path  # the working directory of the commands
    inputs: list[Path]
    params: list[str]
    outputs: list[Path]
    metrics: list[Path]  # the outputs that are metrics
    ancestors: frozenset[str]  # names of the stages that it depends on, directly or not


@dataclass(frozen=True)
class Pipeline:
    """The stages of a clean clone, or of a copy of one, and the model that they make."""

    folder: Path
    stages: list[Stage]  # in the order in which they run
    model: Path  # the file that users get: dvc.yaml's artifact of type model
    model_stage: Stage
    kind: str = "commit"  # what it is to the command that cloned it: "candidate", for example
    # returns the files that a stage may not see while it runs
    hidden: Callable[["Pipeline", Stage], list[Path]] = lambda pipeline, stage: []

    @property
    def seed(self) -> int:
        """Return the seed in params.yaml. Raises UserError if there is none."""
        seed = read_yaml(self.folder / PARAMS).get("seed")
        if not isinstance(seed, int):
            raise UserError(f"{PARAMS}: seed is not a whole number, and further seeds are needed")
        return seed

    @property
    def model_file(self) -> Path:
        """Return the absolute path of the model."""
        return self.folder / self.model

    @property
    def data_stages(self) -> list[Stage]:
        """Return the stages that do not depend on the model, in order."""
        last = self.model_stage
        return [one for one in self.stages if one != last and last.name not in one.ancestors]

    @property
    def scoring_stages(self) -> list[Stage]:
        """Return the stages that read the model and write metrics, in order."""
        stages = [stage for stage in self.stages if stage.metrics]
        return [one for one in stages if any(map(self.model.is_relative_to, one.inputs))]

    @property
    def learning_stages(self) -> list[Stage]:
        """Return the stage that makes the model, after those that it depends on."""
        names = {self.model_stage.name, *self.model_stage.ancestors}
        return [stage for stage in self.stages if stage.name in names]

    def files(self, stages: Iterable[Stage]) -> list[Path]:
        """Return the existing files in the outputs of stages, as absolute paths."""
        outputs = [self.folder / path for stage in stages for path in stage.outputs]
        return [one for path in outputs for one in (path, *path.rglob("*")) if one.is_file()]

    def metrics(self, stages: Iterable[Stage] | None = None) -> dict[str, Any]:
        """Return the values in the metrics files of stages, by default of all.

        Raises UserError if a file is not a JSON object, or has a number that is not finite.
        """
        found = {}
        for path in [path for stage in stages or self.stages for path in stage.metrics]:
            try:
                content = dict(json.loads((self.folder / path).read_bytes()))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise UserError(f"{path} is not a metrics file: {error}") from None
            for name, value in content.items():
                if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
                    raise UserError(f"{path}: {name} is {str(value)[:20]}, which is not finite")
            found |= content
        return found

    def tables(self, stages: Iterable[Stage]) -> list[pd.DataFrame]:
        """Return the CSV files of stages; every value is text."""
        paths = [path for path in self.files(stages) if path.suffix == ".csv"]
        try:
            return [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
        except ValueError as error:  # empty, not text, uneven rows
            names = ", ".join(path.name for path in paths)
            raise UserError(f"one of {names} is not a CSV file: {error}") from None

    def run(self, stages: Iterable[Stage]) -> None:
        """Run stages, each without its old outputs and without the hidden files.

        Raises CommandFailed if a stage fails, and UserError if it does not write an output that it
        declares.
        """
        for stage in stages:
            for path in stage.outputs:
                _remove(self.folder / path)
            with _taken_away(self.hidden(self, stage), self.folder):
                for command in stage.commands:
                    words = ["/bin/sh", "-c", command]
                    run(words, self.folder / stage.folder, f"stage {stage.name} failed")
            missing = [str(path) for path in stage.outputs if not (self.folder / path).exists()]
            if missing:
                raise UserError(f"stage {stage.name} ended without writing {', '.join(missing)}")

    def copy_to(self, folder: Path) -> "Pipeline":
        """Copy the clone, without Git's and DVC's own folders."""
        ignored = shutil.ignore_patterns(".git", ".dvc")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        return replace(self, folder=folder)

    @contextmanager
    def trained(self, seed: int) -> Iterator["Pipeline"]:
        """Yield a copy of the clone whose model is trained with a seed; it is removed afterwards.

        The stages before the first that declares the seed, or makes the model, are not run again.
        """

        def is_same(stage: Stage) -> bool:
            return stage != self.model_stage and "seed" not in stage.params

        with _folder_beside(self.folder) as folder:
            copy = self.copy_to(folder)
            write_params({"seed": seed}, folder / PARAMS)
            copy.run(dropwhile(is_same, self.learning_stages))
            yield copy

    def rebuild(self) -> dict[str, str]:
        """Run all stages; return how files differ from dvc.lock and Git afterwards, by path."""
        self.run(self.stages)
        outputs = [str(path) for stage in self.stages for path in stage.outputs]
        words = ("diff", "--name-only", "-z", "HEAD", "--", *outputs)
        in_git = git("-C", str(self.folder), *words).split("\0")[:-1]
        found = dict.fromkeys(in_git, "differs from Git")
        with _clean_repo(self.folder) as repo:
            for stage in repo.index.stages:
                if stage.changed_stage():
                    found[f"the command of {_name_of(stage)}"] = "differs from dvc.lock"
                for entry in (*stage.deps, *stage.outs):  # `dvc status` needs outputs in the cache
                    found |= dict.fromkeys(entry.workspace_status(), "differs from dvc.lock")
        return found


@contextmanager
def clean_clone(kind: str, commit: str) -> Iterator[Pipeline]:
    """Yield the pipeline of a commit in a clone without DVC settings and cache.

    The clone is removed when the block ends. Raises UserError if dvc.yaml has no stages that can
    run from scratch, or not exactly one model.
    """
    with temporary_clone(kind, commit) as folder:
        if not (folder / DVC_YAML).is_file():
            raise UserError(f"{commit[:7]} has no {DVC_YAML}, so it can't be run")
        _remove(folder / ".dvc")
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
        yield replace(read_pipeline(folder), kind=kind)


def changed_pins(before: str, after: str) -> dict[str, bytes]:
    """Return the content in `after` of the files with pinned versions that differ from `before`.

    It is by path, and empty for files that `after` lacks.
    """
    changed = fnmatch.filter(modes := changed_paths(before, after), PINS)
    return {path: b"" if modes[path] == DELETED else file_at(after, path) for path in changed}


def read_pipeline(folder: Path) -> Pipeline:
    """Return the pipeline in a clean clone. Raises UserError as `clean_clone` does."""
    with _clean_repo(folder) as repo:
        stages = _read_stages(repo, folder)
    models = model_artifacts(read_yaml(folder / DVC_YAML) or {})
    if len(models) != 1:
        raise UserError(
            f"dvc.yaml names {len(models)} artifacts of type model. Name one: the model that users"
            " get"
        )
    model = Path(models[0])
    for stage in stages:
        if any(model.is_relative_to(output) for output in stage.outputs):
            return Pipeline(folder, stages, model, stage)
    raise UserError(f"no stage of dvc.yaml makes {model}, which its artifact names")


def _clean_repo(folder: Path) -> AbstractContextManager[Any]:
    """Open a clean clone as a DVC repository whose databases are in the clone, too."""
    logging.getLogger("dvc").setLevel(logging.ERROR)  # DVC notes each frozen stage
    return dvc_repo(folder, {"core": {"site_cache_dir": str(folder / ".dvc/tmp/site")}})


def _read_stages(repo: Any, folder: Path) -> list[Stage]:
    """Return the stages of a DVC repository, each after those that it depends on."""
    import networkx
    from dvc.dependency import ParamsDependency

    graph = repo.index.graph  # from each stage to those that it depends on
    order = {stage: number for number, stage in enumerate(repo.index.stages)}

    def inside(path: str) -> Path:
        return Path(os.path.relpath(path, folder))

    stages = []
    for stage in networkx.lexicographical_topological_sort(graph.reverse(), order.get):
        name = _name_of(stage)
        if not stage.cmd:
            raise UserError(f"{name} has no command, so it can't be run from scratch")
        outputs = [inside(out.fs_path) for out in stage.outs]
        if outside := [path for path in outputs if path.parts[0] == ".."]:
            raise UserError(f"stage {name} writes {outside[0]}, outside of the project")
        params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        stages.append(
            Stage(
                name=name,
                commands=[stage.cmd] if isinstance(stage.cmd, str) else list(stage.cmd),
                folder=inside(stage.wdir),
                inputs=[inside(dep.fs_path) for dep in stage.deps if dep not in params],
                params=[param for dep in params for param in dep.params],
                outputs=outputs,
                metrics=[inside(out.fs_path) for out in stage.outs if out.metric],
                ancestors=frozenset(map(_name_of, networkx.descendants(graph, stage))),
            )
        )
    return stages


def _name_of(stage: Any) -> str:
    """Return the name of a DVC stage, for one in a folder after the path of its dvc.yaml."""
    return f"{stage.path_in_repo}:{getattr(stage, 'name', '')}".removeprefix("dvc.yaml:")


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # does nothing if it is a file or a link
    path.unlink(missing_ok=True)


@contextmanager
def _folder_beside(clone: Path) -> Iterator[Path]:
    """Yield a temporary folder whose name begins as the clone's, so that both become stale."""
    names = {"prefix": f"{clone.name}-", "dir": clone.parent}
    with TemporaryDirectory(**names, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _taken_away(files: list[Path], clone: Path) -> Iterator[None]:
    """Move files out of a clone while the block lasts."""
    with _folder_beside(clone) as folder:
        moved = [(path, path.rename(folder / str(i))) for i, path in enumerate(files)]
        try:
            yield
        finally:
            for path, stored in moved:
                path.parent.mkdir(parents=True, exist_ok=True)
                stored.rename(path)
