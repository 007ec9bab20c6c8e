"""DVC's commands, and where DVC keeps what: its cache, dvc.lock, experiments.

DVC writes dvc.lock in place, so another process may find it empty or cut off, and a killed DVC
leaves it like that.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fashion.core.environment import is_pinned
from fashion.core.errors import UserError
from fashion.core.strict_yaml import parse_yaml
from tools.git import SHALLOW, file_at, git, is_shallow, yaml_at
from tools.process import start

DVC_YAML, DVC_LOCK = Path("dvc.yaml"), Path("dvc.lock")


def command(*arguments: str) -> list[str]:
    """Return the words of a DVC command, run by the Python and the packages of this process.

    It waits for another DVC process of the project, such as an editor's.
    """
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def dvc(*arguments: str, folder: Path = Path(), **variables: str) -> None:
    """Run a DVC command in `folder`, with its output on the terminal. Raises UserError if it fails.

    `variables` are further environment variables.
    """
    if start(command(*arguments), folder, os.environ | variables).wait():
        place, words = folder.resolve(), " ".join(arguments)
        raise UserError(f"`dvc {words}` failed in {place}; its last lines above say why")


def status(stage: str | None = None) -> dict[str, list]:
    """Return what `dvc status` finds in the workspace, by stage; nothing if all is up to date.

    For one stage and its ancestors, or for all stages. Raises UserError if DVC can't tell.
    """
    from dvc.exceptions import DvcException  # slow, so only where it is needed
    from dvc.repo import Repo
    from dvc.rwlock import RWLOCK_FILE, RWLockFileCorruptedError

    try:
        with Repo(_wait_for_lock=True) as repo:
            return repo.status(targets=stage, with_deps=True)
    except RWLockFileCorruptedError:  # cut off as a DVC process was killed; each later one fails
        Path(repo.tmp_dir, RWLOCK_FILE).unlink(missing_ok=True)
        return status(stage)
    except DvcException as error:
        raise UserError(f"`dvc status` fails: {error}") from None
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} has gone while it was read: another DVC process is at work."
            " Run this again when it has ended"
        ) from None


def cache_folder() -> Path:
    """Return the folder of DVC's cache, which may be outside of the project."""
    from dvc.config import Config, ConfigError  # slow, so only where it is needed

    try:
        cache = Config(str(Path(".dvc").resolve()))["cache"]
    except ConfigError as error:
        raise UserError(f"DVC's settings can't be read: {error}") from None
    return Path(cache.get("dir", ".dvc/cache")).resolve()


def cached_file(md5: str) -> Path:
    """Return where DVC's cache has, or would have, the file or folder listing with an MD5."""
    return cache_folder() / "files/md5" / md5[:2] / md5[2:]


@contextmanager
def pinned_run_cache() -> Iterator[None]:
    """Keep runs of the block out of DVC's run cache, which knows neither packages nor arithmetic.

    With the pinned packages and portable arithmetic, they stay in it.
    """
    runs = cache_folder() / "runs"
    before = set(runs.glob("*/*/*"))
    try:
        yield
    finally:
        for path in set() if is_pinned() else set(runs.glob("*/*/*")) - before:
            path.unlink(missing_ok=True)


def share_cache(clone: Path) -> None:
    """Give a clone this project's local settings of DVC, and its cache."""
    from configobj import ConfigObj  # which, unlike `dvc cache dir`, writes paths in UTF-8

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
    """Return the stages of the dvc.lock at `path`, by name. Raises UserError if it is none."""
    try:
        return parse_lock(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. `git checkout {path}` restores it") from None
    except UserError as error:
        raise UserError(
            f"{error}. Run this again, as another DVC process may be writing it. If one was killed"
            f" as it did, `git checkout {path}` restores the committed file"
        ) from None


def lock_at(revision: str) -> dict[str, dict[str, Any]]:
    """Return the stages of a revision's dvc.lock. Raises UserError if it is none."""
    return parse_lock(file_at(revision, DVC_LOCK), f"{DVC_LOCK} of {revision}")


def parse_lock(text: bytes, source: str) -> dict[str, dict[str, Any]]:
    """Return the stages in the text of a dvc.lock. Raises UserError naming `source`."""
    lock = parse_yaml(text, source)
    try:
        _Lock.model_validate(lock)
    except ValidationError:
        raise UserError(f"{source}: not whole") from None
    return lock["stages"]


def output_hashes(stages: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the MD5 of every output of dvc.lock's stages, by path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def model_artifacts(dvc_yaml: dict[str, Any]) -> list[str]:
    """Return the paths of the artifacts of type model that the content of a dvc.yaml names."""
    artifacts = dvc_yaml.get("artifacts", {}).values()
    return [artifact["path"] for artifact in artifacts if artifact.get("type") == "model"]


def pipeline_hashes(revision: str) -> dict[str, str]:
    """Return SHA-256 of what a revision's scores depend on besides the seed, by kind.

    The kinds are code with the packages pinned in it, params and data, as dvc.lock has them for the
    stages that make or read the model.
    """
    models, lock = model_artifacts(yaml_at(revision, DVC_YAML)), lock_at(revision)
    stages, made = [lock[name] for name in sorted(lock)], output_hashes(lock)
    stages = [one for one in stages if any(path in models for path in _paths(one))]
    deps = [dep for stage in stages for dep in stage.get("deps", []) if dep["path"] not in models]
    params = [values for stage in stages for values in stage.get("params", {}).values()]
    commands = [stage["cmd"] for stage in stages]
    content = {
        "code": [commands, [dep for dep in deps if dep["path"] not in made]],
        "params": [{name: one[name] for name in one if name != "seed"} for one in params],
        "data": [dep for dep in deps if dep["path"] in made],
    }
    return {
        kind: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        for kind, value in content.items()
    }


def _paths(stage: dict[str, Any]) -> list[str]:
    return [entry["path"] for kind in ("deps", "outs") for entry in stage.get(kind, [])]


def experiment_ref(commit: str, name: str = "") -> str:
    """Return the Git reference of an experiment of a commit; without a name, their prefix."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def list_experiments(commit: str) -> dict[str, str]:
    """Return the experiments that DVC keeps with a commit: revision by name."""
    prefix = experiment_ref(commit)
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
    pairs = (line.split(" ", 1) for line in lines)
    return {name.removeprefix(prefix): revision for revision, name in pairs}


def commits_with_experiments() -> list[str]:
    """Return the commits with experiments: HEAD and its ancestors first, then the newest."""
    references = git("for-each-ref", "--sort=-creatordate", "--format=%(refname)", "refs/exps")
    parts = (reference.split("/") for reference in references.splitlines())
    # refs/exps/AB/CDEF.../NAME; DVC keeps others, as refs/exps/stash, for itself
    commits = dict.fromkeys(part[2] + part[3] for part in parts if len(part) >= 5)
    before = [commit for commit in git("rev-list", "HEAD").splitlines() if commit in commits]
    return list(dict.fromkeys([*before, *commits]))


def resolve_revision(revision: str) -> str:
    """Return the commit of a hash, or of a branch, else a tag, else an experiment of that name.

    Of several experiments, the first in `commits_with_experiments` counts. Raises UserError if
    there is no such revision.
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
        " `git log` and `dvc exp list --all-commits` show what there is"
        + (f". {SHALLOW}" if is_shallow() else "")
    )
