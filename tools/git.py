"""Git's commands, local clones, and where DVC keeps its experiments in Git."""

import subprocess
from pathlib import Path

from fashion.errors import UserError

# For `git clone`: where there are more than 50 packs, and every experiment that is fetched or
# pushed may be one, DVC's Git library would tidy up at each of its commits, which takes seconds.
NO_GC = "--config=gc.auto=0"
# for `git diff`: a patch that can be applied, whatever the user has configured
AS_PATCH = [
    "--binary",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
]


def git(*arguments: str) -> str:
    """What a Git command prints. Raises UserError with Git's own words when it fails."""
    return git_bytes(*arguments).decode()


def git_bytes(*arguments: str) -> bytes:
    """The same for output that is not text."""
    result = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if result.returncode:
        raise UserError(f"`git {' '.join(arguments)}`: {result.stderr.decode().strip()}")
    return result.stdout


def local_clone(folder: Path, commit: str = "HEAD", with_changes: bool = False) -> None:
    """Clone this repository at a commit into `folder`, which is empty or not there yet.

    Who commits there is who commits here. `with_changes` takes over what is changed but not
    committed.
    """
    git("clone", "--quiet", "--no-tags", "--no-checkout", NO_GC, ".", str(folder))
    inside = ("-C", str(folder))
    git(*inside, "checkout", "--quiet", "--detach", resolve_revision(commit))
    for key in ("user.name", "user.email"):
        if value := git("config", "--default", "", "--get", key).strip():
            git(*inside, "config", key, value)
    if with_changes and (changes := git_bytes("diff", *AS_PATCH, commit)):
        patch = folder / ".git/changes"
        patch.write_bytes(changes)
        git(*inside, "apply", str(patch))


def is_unchanged(revision: str, *paths: str) -> bool:
    """Whether the files at `paths` in the working copy are those of `revision`."""
    return not git("diff", "--name-only", revision, "--", *paths)


def head() -> str:
    """The commit that we are on, in full."""
    try:
        return git("rev-parse", "--verify", "HEAD").strip()
    except UserError:
        raise UserError(
            "there is no commit yet, and DVC keeps experiments with a commit."
            " Commit the project first"
        ) from None


def resolve_revision(revision: str) -> str:
    """Return the commit that an experiment, branch, tag or hash stands for.

    Of experiments of that name, it is the newest. Those of the current commit come before branches
    and tags, and these before other commits' experiments.
    """
    if revision in (kept := list_experiments(head())):
        return kept[revision]
    try:
        return git("rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}").strip()
    except UserError:
        lines = git(
            "for-each-ref",
            "--sort=-creatordate",
            "--format=%(objectname) %(refname:lstrip=4)",
            "refs/exps",
        )
        for line in lines.splitlines():
            found, _, name = line.partition(" ")
            if name == revision:
                return found
    raise UserError(
        f"there is no revision {revision} here."
        " `git log` and `dvc exp list --all-commits` show what there is"
    )


def experiment_ref(commit: str, name: str = "") -> str:
    """Return the Git reference in which DVC keeps an experiment of a commit.

    Without a name, it is what the references of all of them begin with.
    """
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def list_experiments(commit: str) -> dict[str, str]:
    """Return the experiments that DVC keeps with a commit: revision by name."""
    prefix = experiment_ref(commit)
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
    return {
        name.removeprefix(prefix): revision
        for revision, name in (line.split(" ", 1) for line in lines)
    }
