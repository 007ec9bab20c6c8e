"""Git's commands, files and commits, and temporary clones."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from fashion.core.errors import UserError
from fashion.core.strict_yaml import parse_yaml
from tools.process import clean_env, start

TMP = Path(".dvc/tmp")
CLONE_SETTINGS = {  # of clones, so that the user's own take no effect
    "core.hooksPath": os.devnull,
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.splitIndex": "false",  # DVC's Git library reads neither this nor the next ones
    "feature.manyFiles": "false",
    "index.skipHash": "false",
    # Where there are more than 50 packs, and every experiment that is fetched or pushed may be one,
    # DVC's Git library would tidy up at each of its commits, which takes seconds.
    "gc.auto": "0",
}
SHALLOW = "This clone is shallow: `git fetch --unshallow` brings the rest"
NO_REPOSITORY = (
    "this folder is no Git repository with a commit, and DVC keeps experiments in one. Either"
    " `git clone` the project, or `git init && git add -A && git commit -m first` here"
)
SOMEBODY = {  # so that the same changes always give the same commit
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "gate"), ("EMAIL", "gate@localhost"), ("DATE", "@0 +0000"))
}


def git(*arguments: str, env: Mapping[str, str] = os.environ) -> str:
    """Return what a Git command prints. Raises UserError with Git's own words if it fails.

    `env` is the command's environment, by default the user's, with the settings of remotes.
    """
    return git_bytes(*arguments, env=env).decode(errors="surrogateescape")


def git_bytes(*arguments: str, env: Mapping[str, str] = os.environ) -> bytes:
    """Return the output of a Git command, which may be binary; otherwise like `git`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start(["git", *arguments], env=env, **pipes)
    output, errors = process.communicate()
    if process.returncode:
        reason = errors.decode(errors="replace").strip()
        if "not a git repository" in reason or "Needed a single revision" in reason:
            raise UserError(NO_REPOSITORY)
        raise UserError(f"`git {' '.join(arguments)}`: {reason}")
    return output


def file_at(revision: str, path: Path | str) -> bytes:
    """Return the content of a file at a revision. Raises UserError if it is not there."""
    return git_bytes("show", f"{revision}:{path}")


def yaml_at(revision: str, path: Path | str) -> Any:
    """Return the content of a YAML file at a revision. Raises UserError if there is none."""
    return parse_yaml(file_at(revision, path), f"{path} of {revision}")


def head() -> str:
    """Return the full hash of the commit that HEAD stands for.

    Raises UserError without one, and if the project is not the root of its Git repository.
    """
    *inside, commit = git("rev-parse", "--show-prefix", "--verify", "HEAD").split("\n")[:-1]
    if inside != [""]:
        raise UserError(
            f"this folder is {inside[0]} in a larger Git repository, and DVC's experiments need one"
            " of their own. Here `git init && git add -A && git commit -m first` makes one"
        )
    return commit


def is_shallow() -> bool:
    """Whether this clone has only the last commits of its history."""
    return git("rev-parse", "--is-shallow-repository").strip() == "true"


def identity() -> dict[str, str]:
    """Return the environment variables that name the user as author of commits, if known."""
    with suppress(UserError):  # without a configured name, nor one of the operating system
        name, email = re.match(r"(.*) <(.*)> ", git("var", "GIT_AUTHOR_IDENT")).groups()
        parts = {"NAME": name, "EMAIL": email}
        roles = ("AUTHOR", "COMMITTER")
        return {f"GIT_{role}_{part}": parts[part] for role in roles for part in parts}
    return {}


def commit_workspace() -> str:
    """Return HEAD, or a commit of HEAD with the uncommitted changes of tracked and added files.

    The commit is in no branch, and the user's index stays as it is.
    """
    with TemporaryDirectory() as folder:
        index = shutil.copy(git("rev-parse", "--git-path", "index").strip(), folder)
        env = {**os.environ, **SOMEBODY, "GIT_INDEX_FILE": index}
        git("add", "--update", ":/", env=env)
        tree = git("write-tree", env=env).strip()
        if tree == git("rev-parse", "HEAD^{tree}").strip():
            return head()
        return git("commit-tree", tree, "-p", "HEAD", "-m", "The workspace", env=env).strip()


def local_clone(folder: Path, commit: str | None = None) -> None:
    """Clone this repository into `folder`, which is empty or new, at a commit, by default HEAD.

    The user's hooks, templates, filters and attributes take no effect.
    """
    env, inside = clean_env(), ("-C", str(folder))
    settings = [f"--config={name}={value}" for name, value in CLONE_SETTINGS.items()]
    words = ("clone", "--quiet", "--no-tags", "--no-checkout", *settings)
    git(*words, ".", str(folder), env=env)
    git(*inside, "checkout", "--quiet", "--detach", commit or head(), env=env)


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Yield a new folder that is removed when the block ends, and stale ones of this kind now.

    It is inside the project, so that clones in it find relative data sources. Its name has the
    number of this process.
    """
    remove_stale_folders(kind)
    TMP.mkdir(parents=True, exist_ok=True)
    prefix = f"{kind}-{os.getpid()}-"
    with TemporaryDirectory(prefix=prefix, dir=TMP, ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@contextmanager
def temporary_clone(kind: str, commit: str) -> Iterator[Path]:
    """Yield a clone of this repository at a commit that is removed when the block ends."""
    with temporary_folder(kind) as folder:
        local_clone(folder, commit)
        yield folder


def remove_stale_folders(kind: str) -> None:
    """Delete the temporary folders of killed processes in which no other process works."""
    for folder in TMP.glob(f"{kind}-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])) and not is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_in_use(folder: Path) -> bool:
    """Whether a process has its working directory in a folder."""
    places = [process.info["cwd"] for process in psutil.process_iter(["cwd"])]
    return any(Path(place).is_relative_to(folder.resolve()) for place in places if place)
