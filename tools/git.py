"""Run Git's commands, read files of commits, and make temporary clones."""

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
from tools.process import LAST_LINES, start

TMP = Path(".dvc/tmp")
CLONE_SETTINGS = {  # of clones, so that the user's own have no effect
    "core.hooksPath": os.devnull,
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.splitIndex": "false",  # DVC's Git library can't read an index with this or the next two
    "feature.manyFiles": "false",
    "index.skipHash": "false",
    # Each fetched or pushed experiment may add a pack. With more than 50 packs, DVC's Git library
    # would spend seconds on garbage collection at each commit.
    "gc.auto": "0",
}
CLONE_OPTIONS = ["--quiet", "--no-tags", "--origin=origin", "--template="]
CLONE_OPTIONS += [f"--config={name}={value}" for name, value in CLONE_SETTINGS.items()]
SHALLOW = "This clone is shallow: `git fetch --unshallow` fetches the rest"
NO_REPOSITORY = (
    "this folder is no Git repository with a commit, and DVC keeps experiments in one. Either"
    " `git clone` the project, or run `git init && git add -A && git commit -m first` here"
)
DELETED = "000000"  # the mode of a missing file
FIXED_IDENTITY = {  # so that the same changes always give the same commit
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "gate"), ("EMAIL", "gate@localhost"), ("DATE", "@0 +0000"))
}


def git(*arguments: str, env: Mapping[str, str] = os.environ) -> str:
    """Return the output of a Git command. Raises UserError with Git's message if it fails.

    `env` is the command's environment. The default has the user's settings, for example of remotes.
    """
    return git_bytes(*arguments, env=env).decode(errors="surrogateescape")


def git_bytes(*arguments: str, env: Mapping[str, str] = os.environ) -> bytes:
    """Return the output of a Git command as bytes, otherwise like `git`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start(["git", *arguments], env=env, **pipes)
    output, errors = process.communicate()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        reason = "\n".join(lines[-LAST_LINES:])  # a full disk gives one for each file
        if "not a git repository" in reason or "Needed a single revision" in reason:
            raise UserError(NO_REPOSITORY)
        raise UserError(f"`git {' '.join(arguments)}`: {reason}")
    return output


def file_at(revision: str, path: Path | str) -> bytes:
    """Return the content of a file at a revision. Raises UserError if it is missing."""
    try:
        return git_bytes("show", f"{revision}:{path}")
    except UserError:
        if git("ls-tree", revision, "--", str(path)):
            raise
        raise UserError(
            f"{revision} has no {path}. `git log {path}` lists commits with it"
        ) from None


def yaml_at(revision: str, path: Path | str) -> Any:
    """Return the content of a YAML file at a revision. Raises UserError if missing or invalid."""
    return parse_yaml(file_at(revision, path), f"{path} of {revision}")


def changed_paths(baseline: str, candidate: str) -> dict[str, str]:
    """Return the paths that differ between two commits, with the mode that the second one has.

    No setting of Git changes that.
    """
    fields = git("diff-tree", "-r", "-z", "--no-renames", baseline, candidate).split("\0")
    modes = [entry.split()[1] for entry in fields[:-1:2]]  # of ":MODE MODE HASH HASH STATUS"
    return dict(zip(fields[1::2], modes, strict=True))


def head() -> str:
    """Return the full hash of HEAD.

    Raises UserError without a commit, or if the project is not the root of its Git repository.
    """
    *inside, commit = git("rev-parse", "--show-prefix", "--verify", "HEAD").split("\n")[:-1]
    if inside != [""]:
        raise UserError(
            f"this folder is {inside[0]} in a larger Git repository, but DVC's experiments need a"
            " separate one. `git init && git add -A && git commit -m first` makes one here"
        )
    return commit


def is_shallow() -> bool:
    """Return whether this clone lacks the older commits of its history."""
    return git("rev-parse", "--is-shallow-repository").strip() == "true"


def identity() -> dict[str, str]:
    """Return the environment variables that name the user as the author of commits, if known."""
    with suppress(UserError):  # neither Git's settings nor the operating system has a name
        name, email = re.match(r"(.*) <(.*)> ", git("var", "GIT_AUTHOR_IDENT")).groups()
        parts = {"NAME": name, "EMAIL": email}
        roles = ("AUTHOR", "COMMITTER")
        return {f"GIT_{role}_{part}": parts[part] for role in roles for part in parts}
    return {}


def commit_workspace() -> str:
    """Return a commit of HEAD and the uncommitted changes; without changes, HEAD.

    Untracked files are left out. The commit is on no branch, and the index stays as it is.
    """
    with TemporaryDirectory() as folder:
        index = shutil.copy(git("rev-parse", "--git-path", "index").strip(), folder)
        env = {**os.environ, **FIXED_IDENTITY, "GIT_INDEX_FILE": index}
        git("add", "--update", ":/", env=env)
        tree = git("write-tree", env=env).strip()
        if tree == git("rev-parse", "HEAD^{tree}").strip():
            return head()
        return git("commit-tree", tree, "-p", "HEAD", "-m", "The workspace", env=env).strip()


def local_clone(folder: Path, commit: str | None = None) -> None:
    """Clone this repository into an empty or new folder, at a commit, by default HEAD.

    The user's hooks, templates, filters and attributes have no effect.
    """
    git("clone", *CLONE_OPTIONS, "--no-checkout", ".", str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit or head())


@contextmanager
def temporary_clone(kind: str, commit: str) -> Iterator[Path]:
    """Yield a clone of this repository at a commit, removed after the block.

    It is inside the project, so that it finds relative data sources, and its name has the ID of
    this process. Clones of this kind that killed processes left are removed first, unless a process
    still works in one: its next Git command would find the project around it instead.
    """
    for folder in TMP.glob(f"{kind}-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])) and not is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)
    TMP.mkdir(parents=True, exist_ok=True)
    prefix = f"{kind}-{os.getpid()}-"
    with TemporaryDirectory(prefix=prefix, dir=TMP, ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        local_clone(folder, commit)
        yield folder


def is_in_use(folder: Path) -> bool:
    """Return whether a process has its working directory in a folder."""
    places = [process.info["cwd"] for process in psutil.process_iter(["cwd"])]
    return any(Path(place).is_relative_to(folder.resolve()) for place in places if place)
