"""DVC's own commands, run with the Python and the packages that run this one."""

import os
import subprocess
import sys
from pathlib import Path

from fashion.core.errors import UserError

DVC_YAML = Path("dvc.yaml")


def dvc(*arguments: str, folder: Path = Path(), **variables: str) -> None:
    """Run a DVC command in `folder`, its output on the terminal.

    `variables` are further environment variables. Raises UserError when it fails; DVC has then
    already said why.
    """
    if subprocess.run(
        command(*arguments), cwd=folder, env=subprocess_env(**variables), check=False
    ).returncode:
        raise UserError(
            f"`dvc {' '.join(arguments)}` failed in {folder.resolve()};"
            " its last lines above say why"
        )


def status(stage: str | None = None) -> dict[str, list]:
    """Return what `dvc status` finds in the workspace, by stage; nothing where all is up to date.

    Of one stage and those before it, or of all. Raises UserError where DVC can't tell.

    DVC notes in .dvc/tmp/rwlock which process uses which file. One that was killed while it wrote
    that leaves it cut off, and every later one would fail: so it is removed.
    """
    from dvc.exceptions import DvcException  # slow, so only where it is needed
    from dvc.repo import Repo
    from dvc.rwlock import RWLOCK_FILE, RWLockFileCorruptedError

    try:
        with Repo() as repo:
            return repo.status(targets=stage, with_deps=True)
    except RWLockFileCorruptedError:
        Path(repo.tmp_dir, RWLOCK_FILE).unlink(missing_ok=True)
        return status(stage)
    except DvcException as error:
        raise UserError(f"`dvc status` fails: {error}") from None
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} has gone while it was read: another DVC process is at work."
            " Run this again when it has ended"
        ) from None


def use_cache(cache: Path, folder: Path) -> None:
    """Have the repository in `folder`, a new clone, keep its files in the DVC cache at `cache`.

    By a link in the place of its own, as DVC writes no path into its settings that is not ASCII.
    """
    from dvc.config import Config  # slow, so only where it is needed

    link = folder / ".dvc/cache"
    if cache != link:
        link.symlink_to(cache.resolve())
    with Config(str(folder / ".dvc")).edit("local") as config:
        config["cache"]["dir"] = os.path.relpath(link)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def subprocess_env(**variables: str) -> dict[str, str]:
    """Return this process's environment, `python` being the one that runs it.

    Stages start with that word.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path} | variables
