"""Read again what DVC keeps, so that what is damaged is noticed: `make fsck`.

What is noticed is made or fetched again. DVC takes a read-only file in its cache for good: it does
not read the content again, and hands a damaged one on to the workspace as if it were whole. Here
every file that dvc.lock names is compared with its MD5, in the cache and in the workspace; with
`--all`, every file in the cache. A damaged one in the cache is removed, and one in the workspace
touched, so that DVC reads it again. After that `dvc repro` or `dvc pull` bring them back.
"""

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.files import md5
from tools.dvc_lock import DVC_LOCK, read_lock
from tools.git import git

NOT_MADE = "nothing has been made here yet"


def main() -> None:
    parser = argparse.ArgumentParser(prog="fsck", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--all", action="store_true", help="the whole cache, not only what dvc.lock names"
    )
    arguments = parser.parse_args()
    verify_cache(whole_cache=arguments.all)
    if not is_made():
        print(f"{NOT_MADE}, so there is nothing to compare: `make`")


def is_made() -> bool:
    """Tell whether anything that dvc.lock names and Git does not keep is in the workspace."""
    stages = read_lock().values() if DVC_LOCK.exists() else ()
    in_git = set(git("ls-files", "-z").split("\0"))
    outputs = (out["path"] for stage in stages for out in stage.get("outs", []))
    return any(Path(path).exists() for path in outputs if path not in in_git)


def verify_cache(whole_cache: bool = False) -> None:
    """Tell of each file that is not what its MD5 says.

    And have DVC bring it back at its next command.
    """
    cache = cache_folder() / "files/md5"
    outputs = dict(outputs_of(cache))
    kept = (
        {path: path.parent.name + path.name for path in cache.glob("??/[0-9a-f]*")}
        if whole_cache
        else {}
    )
    kept |= {cache / md5[:2] / md5[2:]: md5 for md5 in outputs.values()}
    for path in damaged(kept):
        path.unlink(missing_ok=True)
        print(
            f"{path}: damaged, so it is removed from the cache;"
            " `dvc repro` makes it again, `dvc pull` fetches it"
        )
    for path in damaged(outputs):
        with suppress(FileNotFoundError):
            os.utime(path)
        print(f"{path}: not what {DVC_LOCK} says; `dvc repro` makes it again")


def damaged(files: dict[Path, str]) -> list[Path]:
    """Return those of the files that are there whose MD5 is not the given one."""
    with ThreadPoolExecutor() as pool:
        found = pool.map(md5_if_there, files)
        return [
            path
            for path, digest in zip(files, found, strict=True)
            if digest not in (None, files[path].removesuffix(".dir"))
        ]


def md5_if_there(path: Path) -> str | None:
    """Return a file's MD5; None where there is none, if only since another DVC process runs."""
    try:
        return md5(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def outputs_of(cache: Path) -> Iterator[tuple[Path, str]]:
    """Return path and MD5 of every file and folder in dvc.lock.

    And of the files in a folder as far as the cache lists them.
    """
    stages = read_lock() if DVC_LOCK.exists() else {}
    for out in [out for stage in stages.values() for out in stage.get("outs", [])]:
        folder, name = Path(out["path"]), out["md5"]
        yield folder, name
        listing = cache / name[:2] / name[2:]
        if name.endswith(".dir") and md5_if_there(listing) == name.removesuffix(".dir"):
            for entry in json.loads(listing.read_bytes()):
                yield folder / entry["relpath"], entry["md5"]


def cache_folder() -> Path:
    """DVC's cache, which may lie outside of the project.

    In files/md5 it has files by their MD5, whose start is a folder.
    """
    return _cache_folder_of(Path.cwd())


@cache
def _cache_folder_of(project: Path) -> Path:
    from dvc.exceptions import DvcException  # slow, so only where it is needed
    from dvc.repo import Repo

    try:
        return Path(Repo(project).cache.local_cache_dir)
    except DvcException as error:
        raise UserError(str(error)) from None


if __name__ == "__main__":
    with exit_on_user_error("fsck"):
        main()
