"""Put the four files of the data set into data/raw, unchanged.

`python -m stages.fetch`, run by `dvc repro`.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from fashion.core.dataset import DataFile, read_dataset
from fashion.core.errors import UserError
from fashion.core.files import atomic_write, sha256
from fashion.core.params import Params
from stages import StagePaths, run

DATA_DIRS = ("DATA_DIR", "FASHION_MNIST_DIR")  # variables that name a folder, tried first
TIMEOUT = 20  # seconds to wait for a byte from a web address
MIN_BYTES_PER_SECOND = 50_000  # on average over a file; a slower download is given up


class SourceError(Exception):
    """The reason why a source does not have a file."""


def fetch(_: Params, files: StagePaths) -> None:
    """Fetch each file from the first source that has it whole.

    The last source of a clone is the data of the project around it.
    """
    dataset = read_dataset(files["dataset.yaml"])
    sources = [*filter(None, map(os.environ.get, DATA_DIRS)), *dataset.sources]
    sources += [str(project / files["raw"]) for project in projects_around()]
    for _, file in dataset.files:
        source = fetch_file(file, sources, files["raw"] / file.name)
        print(f"{file.name} from {source}")


def fetch_file(file: DataFile, sources: list[str], target: Path) -> str:
    """Copy or download `file` from the first of `sources` that has it whole; return that source.

    Prints why earlier sources failed. Raises UserError if all fail.
    """
    reasons = []
    for source in sources:
        get = download if "://" in source else copy
        try:
            with atomic_write(target) as tmp_path:
                get(file, source, tmp_path)
                check_size(file, tmp_path)
                found = sha256(tmp_path)
                if found != file.sha256:
                    raise SourceError(
                        f"altered: SHA-256 is {found[:8]}..., expected {file.sha256[:8]}..."
                    )
        except SourceError as error:
            reasons.append(f"{source}: {error}")
        else:
            for reason in reasons:
                print(f"fetch: {file.name} not from {reason}", file=sys.stderr)
            return source
    listed = "\n".join(f"  {reason}" for reason in reasons)
    raise UserError(
        f"no source has {file.name} as dataset.yaml describes it ({file.bytes:,} bytes,"
        f" SHA-256 {file.sha256[:8]}...):\n{listed}\n"
        "Put the files of the data set into a folder and name it:"
        f" {DATA_DIRS[0]}=/path/to/folder dvc repro\n"
        "Without them, `make demo` shows the pipeline on synthetic data."
    )


def copy(file: DataFile, folder: str, target: Path) -> None:
    """Copy `file` from a folder.

    A relative folder is looked up from the workspace, then from the projects around it, since DVC
    runs some experiments in a temporary workspace inside the project.
    """
    starts = [Path.cwd(), *projects_around()]
    try:
        paths = [start / Path(folder).expanduser() / file.name for start in starts]
        found = next((path for path in paths if path.is_file()), None)
    except (OSError, RuntimeError) as error:  # no access, too long a name, no such user
        raise SourceError(str(error)) from None
    if found is None:
        raise SourceError("no such file" if paths[0].parent.is_dir() else "no such folder")
    check_size(file, found)
    try:
        shutil.copyfile(found, target)
    except PermissionError as error:
        raise SourceError(error.strerror) from None


def projects_around() -> list[Path]:
    """Return the projects in whose folders this one lies, the nearest first."""
    return [parent for parent in Path.cwd().parents if (parent / ".dvc").is_dir()]


def download(file: DataFile, address: str, target: Path) -> None:
    """Download `file` from a web address, with a progress bar on a terminal.

    Raises SourceError if the server sends too many bytes, takes too long or answers with an error.
    """
    import requests
    import urllib3
    from tqdm import tqdm

    seconds = TIMEOUT + file.bytes / MIN_BYTES_PER_SECOND
    deadline = time.monotonic() + seconds
    url, headers = f"{address.rstrip('/')}/{file.name}", {"Accept-Encoding": "identity"}
    style = {"unit": "B", "unit_scale": True, "disable": None}  # None: only on a terminal
    try:
        with (
            requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response,
            target.open("wb") as out,
            tqdm(total=file.bytes, desc=file.name, **style) as bar,
        ):
            response.raise_for_status()
            while chunk := response.raw.read1(2**16):  # read() would wait for all bytes
                bar.update(out.write(chunk))
                if out.tell() > file.bytes:
                    raise SourceError(f"long: more than {file.bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise SourceError(
                        f"too slow: {out.tell():,} of {file.bytes:,} bytes in {seconds:.0f} s"
                    )
    except requests.HTTPError as error:
        raise SourceError(f"{error.response.status_code} {error.response.reason}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise SourceError(type(error).__name__) from None  # such as TooManyRedirects


def check_size(file: DataFile, path: Path) -> None:
    """Raise SourceError if the size of the file at `path` is not that of `file`."""
    size = path.stat().st_size
    if size != file.bytes:
        word = "short" if size < file.bytes else "long"
        raise SourceError(f"{word}: {size:,} bytes, expected {file.bytes:,}")


if __name__ == "__main__":
    run(fetch)
