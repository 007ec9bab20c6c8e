"""Git's commands, and where DVC keeps its experiments in Git."""

import subprocess

from fashion.errors import UserError

# For `git clone`: where there are more than 50 packs, and every experiment that is fetched or
# pushed may be one, DVC's Git library would tidy up at each of its commits, which takes seconds.
NO_GC = "--config=gc.auto=0"


def git(*arguments: str) -> str:
    """What a Git command prints. Raises UserError with Git's own words when it fails."""
    return git_bytes(*arguments).decode()


def git_bytes(*arguments: str) -> bytes:
    """The same for output that is not text."""
    result = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if result.returncode:
        raise UserError(f"`git {' '.join(arguments)}`: {result.stderr.decode().strip()}")
    return result.stdout


def same(revision: str, *paths: str) -> bool:
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


def resolve(revision: str) -> str:
    """Return the commit that an experiment, branch, tag or hash stands for.

    Of experiments of that name, it is the newest. Those of the current commit come before branches
    and tags, and these before other commits' experiments.
    """
    commit = git("rev-parse", "--quiet", "--verify", "HEAD^{commit}").strip()
    if revision in (kept := experiments(commit)):
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


def experiments(commit: str) -> dict[str, str]:
    """Return the experiments that DVC keeps with a commit: revision by name.

    They are Git references, refs/exps/COMMIT/NAME.
    """
    prefix = f"refs/exps/{commit[:2]}/{commit[2:]}/"
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
    return {
        name.removeprefix(prefix): revision
        for revision, name in (line.split(" ", 1) for line in lines)
    }
