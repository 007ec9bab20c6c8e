"""Verify the files that DVC keeps, and have DVC bring back the corrupted ones: `make fsck`.

DVC trusts read-only files in its cache: it does not read them again, and hands a corrupted one on
to the workspace. Every file that dvc.lock names is compared with its MD5, in the cache and in the
workspace; with `--all`, every file in the cache. A corrupted file in the cache is removed, and one
in the workspace touched, so that DVC reads it again. Then `dvc repro` or `dvc pull` bring it back.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from fashion.core.files import md5
from tools.arguments import parser_of
from tools.dvc import DVC_LOCK, cache_folder, cached_file, output_hashes, read_lock
from tools.git import head
from tools.process import command_line


def main() -> None:
    parser = parser_of("fsck", __doc__)
    whole = "the whole cache, not only what dvc.lock names"
    parser.add_argument("--all", action="store_true", help=whole)
    whole_cache = parser.parse_args().all
    head()  # outside of a Git repository there is no project to verify
    repair_cache(whole_cache)


def repair_cache(whole_cache: bool = False) -> None:
    """Remove corrupted files from the cache, and have DVC read those in the workspace again.

    Prints a line for each.
    """
    outputs = lock_outputs()
    cached = {cached_file(digest): digest for digest in outputs.values()}
    if whole_cache:
        files = (cache_folder() / "files/md5").glob("??/[0-9a-f]*")
        cached |= {path: path.parent.name + path.name for path in files}
    for path in corrupted(cached):
        path.unlink(missing_ok=True)
        print(
            f"{path}: corrupted, so it is removed from the cache;"
            " `dvc repro` makes it again, `dvc pull` fetches it"
        )
    for path in corrupted(outputs):
        with suppress(FileNotFoundError):
            os.utime(path)
        print(f"{path}: not what {DVC_LOCK} says; `dvc repro` makes it again")


def corrupted(files: dict[Path, str]) -> list[Path]:
    """Return those of the existing files that do not have the given MD5."""
    found = []
    for path, digest in files.items():
        # a folder, or a file that is not there, perhaps since another DVC process runs
        with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            found += [path] if md5(path) != digest.removesuffix(".dir") else []
    return found


def lock_outputs() -> dict[Path, str]:
    """Return the MD5 of every file and folder in dvc.lock, and of the files that folders list."""
    outputs = output_hashes(read_lock()) if DVC_LOCK.exists() else {}
    found = {Path(path): digest for path, digest in outputs.items()}
    for folder, digest in [pair for pair in found.items() if pair[1].endswith(".dir")]:
        listing = cached_file(digest)
        with suppress(FileNotFoundError):  # not in the cache
            if not corrupted({listing: digest}):
                entries = json.loads(listing.read_bytes())
                found |= {folder / entry["relpath"]: entry["md5"] for entry in entries}
    return found


if __name__ == "__main__":
    with command_line("fsck"):
        main()
