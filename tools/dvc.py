"""Run DVC's commands, and read its cache, dvc.lock and experiments.

DVC writes dvc.lock in place, so another process may read an empty or truncated file, and a killed
DVC leaves one behind.
"""

import hashlib
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fashion.core.errors import UserError
from fashion.core.strict_yaml import parse_yaml
from tools.git import SHALLOW, file_at, git, is_shallow, yaml_at
from tools.process import start

DVC_YAML, DVC_LOCK = Path("dvc.yaml"), Path("dvc.lock")


def command(*arguments: str) -> list[str]:
    """Return the words of a DVC command that runs with the Python and packages of this process.

    It waits for other DVC processes of the project, such as an editor's.
    """
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def dvc(*arguments: str, folder: Path = Path(), **variables: str) -> None:
    """Run a DVC command in `folder` and show its output. Raises UserError if it fails.

    `variables` are additional environment variables.
    """
    if start(command(*arguments), folder, os.environ | variables).wait():
        place, words = folder.resolve(), " ".join(arguments)
        raise UserError(f"`dvc {words}` failed in {place}; the last lines above say why")


@contextmanager
def dvc_repo(folder: Path = Path(), settings: dict[str, dict] | None = None) -> Iterator[Any]:
    """Yield the project in `folder` as a dvc.repo.Repo, with additional settings of DVC.

    Raises UserError if DVC can't read it.
    """
    from dvc.exceptions import DvcException  # slow, so only where it is needed
    from dvc.repo import Repo

    try:
        with Repo(str(folder), config=settings, _wait_for_lock=True) as repo:
            yield repo
    except (DvcException, sqlite3.OperationalError) as error:  # sqlite3's, if the disk is full
        if DVC_LOCK.exists():
            read_lock()  # if it is incomplete, this says what to do
        here = rf"(?<![\w.]){re.escape(os.path.relpath(folder))}/"  # as in "./dvc.yaml"
        text = re.sub(here, "", str(error)).replace(f"{folder.resolve()}/", "")
        raise UserError(f"DVC can't read the pipeline: {text}") from None


def status(stage: str | None = None) -> dict[str, list]:
    """Return what `dvc status` reports, by stage; an empty dictionary if all is up to date.

    Covers one stage and its ancestors, or all stages. Raises UserError if DVC fails.
    """
    from dvc.rwlock import RWLOCK_FILE, RWLockFileCorruptedError  # slow, as above

    with dvc_repo() as repo:
        try:
            return repo.status(targets=stage, with_deps=True)
        except RWLockFileCorruptedError:  # a killed DVC truncated it, and every later one fails
            Path(repo.tmp_dir, RWLOCK_FILE).unlink(missing_ok=True)
            return repo.status(targets=stage, with_deps=True)
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename} disappeared while DVC read it: another DVC process is running."
                " Run this again when it has ended"
            ) from None


def cache_folder() -> Path:
    """Return the folder of DVC's cache, which may be outside of the project."""
    return _cache_folder(Path(".dvc").resolve())


@cache  # as DVC takes milliseconds to read its settings
def _cache_folder(dvc_folder: Path) -> Path:
    from dvc.config import Config, ConfigError  # slow, so only where it is needed

    try:
        settings = Config(str(dvc_folder))["cache"]
    except ConfigError as error:
        raise UserError(f"DVC's settings can't be read: {error}") from None
    return (dvc_folder.parent / settings.get("dir", ".dvc/cache")).resolve()


def cached_file(md5: str) -> Path:
    """Return the path in DVC's cache of the file or folder listing with an MD5."""
    return cache_folder() / "files/md5" / md5[:2] / md5[2:]


def share_cache(clone: Path) -> None:
    """Give a clone this project's cache and local settings of DVC."""
    from configobj import ConfigObj  # unlike `dvc cache dir`, it writes paths in UTF-8

    settings = ConfigObj(".dvc/config.local", encoding="utf-8")
    settings.setdefault("cache", {})["dir"] = str(cache_folder())
    settings.filename = str(clone / ".dvc/config.local")
    settings.write()


class _Output(BaseModel):
    path: str
    md5: str


class _Stage(BaseModel):
    cmd: str | list[str]
    deps: list[dict] = []
    params: dict[str, dict] = {}
    outs: list[_Output] = []


class _Lock(BaseModel):
    stages: dict[str, _Stage]


def read_lock(path: Path = DVC_LOCK) -> dict[str, dict[str, Any]]:
    """Return the stages of a dvc.lock, by name. Raises UserError if it is corrupted."""
    content = path.read_bytes()
    if b"\n<<<<<<< " in b"\n" + content:
        raise UserError(
            f"{path} has conflicts of a merge. Settle params.yaml and code by hand, `git add` them,"
            " then run `make`, which settles dvc.lock, metrics and plots"
        )
    try:
        return parse_lock(content, str(path))
    except UserError as error:
        raise UserError(
            f"{error}. Run this again, as another DVC process may be writing it. If DVC was killed"
            f" while it wrote, `git checkout {path}` restores the committed file"
        ) from None


def lock_at(revision: str) -> dict[str, dict[str, Any]]:
    """Return the stages of a revision's dvc.lock, by name, with errors as in `parse_lock`."""
    return parse_lock(file_at(revision, DVC_LOCK), f"{DVC_LOCK} of {revision}")


def parse_lock(text: bytes, source: str) -> dict[str, dict[str, Any]]:
    """Return the stages in the text of a dvc.lock. Raises UserError naming `source` if invalid."""
    lock = parse_yaml(text, source)
    try:
        _Lock.model_validate(lock)
    except ValidationError:
        raise UserError(f"{source}: not complete") from None
    return lock["stages"]


def output_hashes(stages: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the MD5 of every output of the stages, by path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def model_artifacts(dvc_yaml: dict[str, Any]) -> list[str]:
    """Return the paths of the artifacts of type model in the content of a dvc.yaml."""
    artifacts = dvc_yaml.get("artifacts", {}).values()
    return [artifact["path"] for artifact in artifacts if artifact.get("type") == "model"]


def pipeline_hashes(revision: str) -> dict[str, str]:
    """Return a SHA-256 of each kind of input that a revision's scores depend on.

    The kinds are "code" (with the pinned packages), "params" (without the seed) and "data", as
    dvc.lock has them for the stages that write or read the model.
    """
    models, lock = model_artifacts(yaml_at(revision, DVC_YAML)), lock_at(revision)
    stages, outputs = [lock[name] for name in sorted(lock)], output_hashes(lock)
    stages = [one for one in stages if any(path in models for path in _paths(one))]
    deps = [dep for stage in stages for dep in stage.get("deps", []) if dep["path"] not in models]
    params = [values for stage in stages for values in stage.get("params", {}).values()]
    commands = [stage["cmd"] for stage in stages]
    content = {
        "code": [commands, [dep for dep in deps if dep["path"] not in outputs]],
        "params": [{name: one[name] for name in one if name != "seed"} for one in params],
        "data": [dep for dep in deps if dep["path"] in outputs],
    }
    return {
        kind: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        for kind, value in content.items()
    }


def _paths(stage: dict[str, Any]) -> list[str]:
    return [entry["path"] for kind in ("deps", "outs") for entry in stage.get(kind, [])]


def experiment_ref(commit: str, name: str = "") -> str:
    """Return the Git reference of a commit's experiment; without a name, the common prefix."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def list_experiments(commit: str) -> dict[str, str]:
    """Return the revisions of a commit's experiments, by name."""
    prefix = experiment_ref(commit)
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
    pairs = (line.split(" ", 1) for line in lines)
    return {name.removeprefix(prefix): revision for revision, name in pairs}


def commits_with_experiments() -> list[str]:
    """Return the commits with experiments: HEAD and its ancestors first, then newest first."""
    references = git("for-each-ref", "--sort=-creatordate", "--format=%(refname)", "refs/exps")
    parts = (reference.split("/") for reference in references.splitlines())
    # refs/exps/AB/CDEF.../NAME; DVC has shorter ones for itself, such as refs/exps/stash
    commits = dict.fromkeys(part[2] + part[3] for part in parts if len(part) >= 5)
    ours = [commit for commit in git("rev-list", "HEAD").splitlines() if commit in commits]
    return list(dict.fromkeys([*ours, *commits]))


def resolve_revision(revision: str) -> str:
    """Return the commit of a branch, tag, hash or experiment, tried in this order.

    If several commits have an experiment of this name, the first of `commits_with_experiments`
    counts. Raises UserError if the revision is unknown.
    """
    is_head = re.match(r"HEAD([~^@]|$)", revision)
    for prefix in [""] if is_head else ["refs/heads/", "refs/remotes/", "refs/tags/", ""]:
        with suppress(UserError):
            name = f"{prefix}{revision}^{{commit}}"
            return git("rev-parse", "--quiet", "--verify", name).strip()
    for commit in commits_with_experiments():
        if revision in (found := list_experiments(commit)):
            return found[revision]
    raise UserError(
        f"there is no revision {revision} here."
        " `git log` and `dvc exp list --all-commits` list the known ones"
        + (f". {SHALLOW}" if is_shallow() else "")
    )
