"""Git's commands, local clones, and where DVC keeps its experiments in Git."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from fashion.core.errors import UserError
from fashion.core.strict_yaml import parse_yaml
from tools.process import clean_env

# For `git clone`: where there are more than 50 packs, and every experiment that is fetched or
# pushed may be one, DVC's Git library would tidy up at each of its commits, which takes seconds.
NO_GC = "--config=gc.auto=0"
NO_REPOSITORY = (
    "this folder is no Git repository with a commit, and DVC keeps experiments in one. Either"
    " `git clone` the project, or `git init && git add -A && git commit -m first` here"
)
SOMEBODY = {  # so that the same changes always give the same commit
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "gate"), ("EMAIL", "gate@localhost"), ("DATE", "@0 +0000"))
}
# for `git diff`: a patch that can be applied, whatever the user has configured
AS_PATCH = [
    "--binary",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
]


def git(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Return what a Git command prints. Raises UserError with Git's own words when it fails."""
    return git_bytes(*arguments, env=env).decode(errors="surrogateescape")


def git_bytes(*arguments: str, env: dict[str, str] | None = None) -> bytes:
    """Do the same for output that is not text. `env` is the command's whole environment."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, check=False, env=env)
    except FileNotFoundError:
        raise UserError("there is no program git. Install it") from None
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip()
        if "not a git repository" in reason:
            raise UserError(NO_REPOSITORY)
        raise UserError(f"`git {' '.join(arguments)}`: {reason}")
    return result.stdout


def yaml_at(revision: str, path: Path | str) -> Any:
    """Return the content of a YAML file at a revision. Raises UserError where it is none."""
    return parse_yaml(git_bytes("show", f"{revision}:{path}"), f"{path} of {revision}")


def uncommitted_changes(commit: str = "HEAD") -> bytes:
    """Return what differs from a commit in the files that Git tracks, as a patch."""
    return git_bytes("diff", *AS_PATCH, commit)


def local_clone(folder: Path, commit: str = "HEAD", patch: bytes = b"") -> None:
    """Clone this repository at a commit into `folder`, which is empty or not there yet.

    `patch` is applied to the working copy there.
    """
    env = clean_env()  # without the user's hooks, templates, filters and attributes
    git("clone", "--quiet", "--no-tags", "--no-checkout", NO_GC, ".", str(folder), env=env)
    inside = ("-C", str(folder))
    git(*inside, "checkout", "--quiet", "--detach", resolve_revision(commit), env=env)
    if patch:
        path = folder.resolve() / ".git/changes"
        path.write_bytes(patch)
        git(*inside, "apply", str(path), env=env)


@contextmanager
def temporary_clone(kind: str, commit: str) -> Iterator[Path]:
    """Yield a clone of this repository at a commit that is gone when the block ends.

    It is inside the project, so that relative data sources are found. Its name has this process's
    number, by which the clones of killed processes are known and removed.
    """
    tmp = Path(".dvc/tmp")
    tmp.mkdir(parents=True, exist_ok=True)
    for left in tmp.glob(f"{kind}-*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    prefix = f"{kind}-{os.getpid()}-"
    with TemporaryDirectory(prefix=prefix, dir=tmp, ignore_cleanup_errors=True) as folder:
        clone = Path(folder).resolve()
        local_clone(clone, commit)
        yield clone


def identity() -> dict[str, str]:
    """Return the environment variables that say who commits, where the user is configured."""
    variables = {}
    for key, part in (("user.name", "NAME"), ("user.email", "EMAIL")):
        if value := git("config", "--default", "", "--get", key).strip():
            variables |= {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")}
    return variables


def commit_workspace() -> str:
    """Return HEAD, or a commit of HEAD with the uncommitted changes of tracked and added files.

    The commit is in no branch, and the user's index stays as it is.
    """
    index = git("rev-parse", "--git-path", "index").strip()
    with TemporaryDirectory() as folder:
        copy = Path(folder, "index")
        if Path(index).exists():
            shutil.copy(index, copy)
        env = os.environ | SOMEBODY | {"GIT_INDEX_FILE": str(copy)}
        git("add", "--update", ":/", env=env)
        tree = git("write-tree", env=env).strip()
        if tree == git("rev-parse", "HEAD^{tree}").strip():
            return head()
        words = ("commit-tree", tree, "-p", "HEAD", "-m", "The workspace")
        return git("-c", "commit.gpgSign=false", *words, env=env).strip()


def is_unchanged(revision: str, *paths: str) -> bool:
    """Whether the files at `paths` in the working copy are those of `revision`."""
    return not git("diff", "--name-only", revision, "--", *paths)


def is_shallow() -> bool:
    """Whether this clone has only the last commits of its history."""
    return git("rev-parse", "--is-shallow-repository").strip() == "true"


def head() -> str:
    """The commit that we are on, in full."""
    try:
        return git("rev-parse", "--verify", "HEAD").strip()
    except UserError:
        raise UserError(NO_REPOSITORY) from None


def resolve_revision(revision: str) -> str:
    """Return the commit that an experiment, branch, tag or hash stands for.

    Experiments of the current commit come before branches and tags, and these before experiments of
    other commits: of the nearest one before this, or else the newest.
    """
    if revision in (kept := list_experiments(head())):
        return kept[revision]
    try:
        return git("rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}").strip()
    except UserError:
        for commit in commits_with_experiments():
            if revision in (kept := list_experiments(commit)):
                return kept[revision]
    raise UserError(
        f"there is no revision {revision} here."
        " `git log` and `dvc exp list --all-commits` show what there is"
    )


def is_experiment(revision: str) -> bool:
    """Whether a commit is one that DVC keeps as an experiment."""
    return bool(git("for-each-ref", "--points-at", revision, "refs/exps"))


def experiment_ref(commit: str, name: str = "") -> str:
    """Return the Git reference in which DVC keeps an experiment of a commit.

    Without a name, it is what the references of all of them begin with.
    """
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def commits_with_experiments() -> list[str]:
    """Return the commits that DVC keeps experiments with.

    This one and those before it come first, the nearest at the front; then others, the newest
    experiment at the front.
    """
    references = git("for-each-ref", "--sort=-creatordate", "--format=%(refname)", "refs/exps")
    parts = (reference.split("/") for reference in references.splitlines())
    # refs/exps/AB/CDEF.../NAME; DVC keeps others, as refs/exps/stash, for itself
    commits = dict.fromkeys(part[2] + part[3] for part in parts if len(part) >= 5)
    before = [commit for commit in git("rev-list", "HEAD").splitlines() if commit in commits]
    return list(dict.fromkeys([*before, *commits]))


def list_experiments(commit: str) -> dict[str, str]:
    """Return the experiments that DVC keeps with a commit: revision by name."""
    prefix = experiment_ref(commit)
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
    return {
        name.removeprefix(prefix): revision
        for revision, name in (line.split(" ", 1) for line in lines)
    }
