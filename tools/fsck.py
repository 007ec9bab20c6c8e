"""Find corrupted files in DVC's cache and in the workspace: `make fsck`.

DVC trusts read-only files in its cache: it does not read them again, and copies a corrupted one
into the workspace. This compares every file that dvc.lock names with its MD5, in the cache and in
the workspace; with `--all`, every file in the cache. It removes corrupted files from the cache and
touches those in the workspace, so that DVC reads them again. Then `dvc repro` or `dvc pull`
restores them. It also removes what a killed DVC has left in the cache and cannot read.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import compress
from pathlib import Path

from fashion.core.files import md5
from tools.arguments import parser_of
from tools.dvc import DVC_LOCK, cache_folder, cached_file, dvc, output_hashes, read_lock
from tools.git import head
from tools.process import command_line


def main() -> None:
    parser = parser_of("fsck", __doc__)
    whole = "verify the whole cache, not only what dvc.lock names"
    parser.add_argument("--all", action="store_true", help=whole)
    whole_cache = parser.parse_args().all
    head()  # outside of a Git repository there is no project to verify
    repair_cache(whole_cache)


def verified_repro(*stages: str) -> None:
    """Run `dvc repro`, and again if the cache had corrupted files in place of its outputs.

    DVC restores results that it has seen, and keeps files that are in its cache, unread.
    """
    dvc("repro", *stages)
    if repair_cache():
        dvc("repro", *stages)


def repair_cache(whole_cache: bool = False) -> bool:
    """Remove corrupted files from the cache, and make DVC read those in the workspace again.

    Prints a line for each. Returns whether there were any. A DVC killed while it recorded a stage's
    run leaves an empty folder, at which every later run of the stage with these inputs would fail,
    so empty ones go, too.
    """
    for folder in (cache_folder() / "runs").glob("*/*"):
        with suppress(OSError):  # not empty
            folder.rmdir()
    outputs = lock_outputs()
    cached = {cached_file(digest): digest for digest in outputs.values()}
    if whole_cache:
        files = (cache_folder() / "files/md5").glob("??/[0-9a-f]*")
        cached |= {path: path.parent.name + path.name for path in files}
    removed, differing = remove_corrupted(cached), corrupted(outputs)
    for path in differing:
        with suppress(FileNotFoundError):
            os.utime(path)
        print(f"{path}: differs from {DVC_LOCK}. `dvc repro` rebuilds it")
    return bool(removed or differing)


def remove_corrupted(cached: dict[Path, str]) -> list[Path]:
    """Remove files from the cache whose content does not match their MD5; return their paths.

    Prints a line for each.
    """
    removed = corrupted(cached)
    for path in removed:
        path.unlink(missing_ok=True)
        print(
            f"{path}: corrupted, so it was removed from the cache. `dvc repro` or, if an experiment"
            " has it, `make experiments` rebuilds it, `dvc pull` fetches it"
        )
    return removed


def corrupted(files: dict[Path, str]) -> list[Path]:
    """Return the existing files whose content does not match their MD5."""

    def is_corrupted(path: Path, digest: str) -> bool:
        # a folder, or a file that another DVC process may just have removed
        with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return md5(path) != digest.removesuffix(".dir")
        return False

    with ThreadPoolExecutor() as pool:
        return list(compress(files, pool.map(is_corrupted, files, files.values())))


def lock_outputs() -> dict[Path, str]:
    """Return the MD5 of every file and folder in dvc.lock, and of the files in those folders."""
    outputs = output_hashes(read_lock()) if DVC_LOCK.exists() else {}
    found = {Path(path): digest for path, digest in outputs.items()}
    for folder, digest in [pair for pair in found.items() if pair[1].endswith(".dir")]:
        listing = cached_file(digest)
        with suppress(FileNotFoundError):  # the cache does not have the listing
            if not corrupted({listing: digest}):
                entries = json.loads(listing.read_bytes())
                found |= {folder / entry["relpath"]: entry["md5"] for entry in entries}
    return found


if __name__ == "__main__":
    with command_line("fsck"):
        main()
