"""Put the four files of the data set into data/raw, unchanged.

Each comes from the first source that has it whole. `python -m stages.fetch`, run by `dvc repro`.
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
from stages.pipeline import StagePaths, run

DATA_DIR_ENV = "FASHION_MNIST_DIR"
TIMEOUT = 20  # seconds without a byte from a web address
MIN_BYTES_PER_SECOND = (
    50_000  # bytes a second; a web address that is slower over the whole file is given up
)


class SourceError(Exception):
    """Why a source did not give a file."""


def fetch(_: Params, files: StagePaths) -> None:
    dataset = read_dataset(files["dataset.yaml"])
    sources = [os.environ[DATA_DIR_ENV]] if os.environ.get(DATA_DIR_ENV) else []
    sources += dataset.sources
    for _, file in dataset.files:
        fetch_file(file, sources, files["raw"] / file.name)


def fetch_file(file: DataFile, sources: list[str], target: Path) -> None:
    """Copy or download `file` from the first of `sources` that has it as described.

    Report each that has not.
    """
    reasons = []
    for source in sources:
        try:
            with atomic_write(target) as tmp_path:
                if "://" in source:
                    download(file, f"{source.rstrip('/')}/{file.name}", tmp_path)
                else:
                    copy(file, source, tmp_path)
        except SourceError as error:
            reasons.append(f"{source}: {error}")
        else:
            for reason in reasons:
                print(f"fetch: {file.name} not from {reason}", file=sys.stderr)
            return print(f"{file.name} from {source}")
    raise UserError(
        f"no source has {file.name} as dataset.yaml describes it ({file.bytes:,} bytes,"
        f" SHA-256 {file.sha256[:8]}...):\n"
        + "\n".join(f"  {reason}" for reason in reasons)
        + "\nPut the files of the data set into a folder and name it:"
        f" {DATA_DIR_ENV}=/path/to/folder dvc repro"
        + "\nWithout them, `make demo` shows the pipeline on drawn garments."
    )


def copy(file: DataFile, folder: str, target: Path) -> None:
    """Copy from a folder.

    A relative one is looked for from here, then from the project that this workspace lies in.
    """
    workspaces = [
        Path.cwd(),
        *(parent for parent in Path.cwd().parents if (parent / ".dvc").is_dir()),
    ]
    paths = [workspace / Path(folder).expanduser() / file.name for workspace in workspaces]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise SourceError("no such file" if paths[0].parent.is_dir() else "no such folder")
    try:
        check_size(file, found)
        shutil.copyfile(found, target)
    except PermissionError as error:
        raise SourceError(error.strerror) from None
    check(file, target)


def download(file: DataFile, url: str, target: Path) -> None:
    """Download from a web address, with a progress bar on a terminal.

    Not a byte and not a minute more than `file` needs.
    """
    import requests
    import urllib3
    from tqdm import tqdm

    deadline = time.monotonic() + TIMEOUT + file.bytes / MIN_BYTES_PER_SECOND
    as_it_is = {"Accept-Encoding": "identity"}  # not unpacked on the way
    try:
        with (
            requests.get(url, stream=True, timeout=TIMEOUT, headers=as_it_is) as response,
            target.open("wb") as out,
            tqdm(
                total=file.bytes,
                unit="B",
                unit_scale=True,
                desc=file.name,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            response.raise_for_status()
            # what has arrived: read() would wait for all of it
            while chunk := response.raw.read1(2**16):
                bar.update(out.write(chunk))
                if out.tell() > file.bytes:
                    raise SourceError(f"long: more than {file.bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise SourceError(
                        f"too slow: {out.tell():,} of {file.bytes:,} bytes in"
                        f" {TIMEOUT + file.bytes / MIN_BYTES_PER_SECOND:.0f} s"
                    )
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise SourceError(_in_short(error)) from None
    check(file, target)


def _in_short(error: Exception) -> str:
    from requests import ConnectionError, HTTPError, Timeout, TooManyRedirects
    from urllib3.exceptions import ProtocolError, TimeoutError

    match error:
        case HTTPError():
            return f"{error.response.status_code} {error.response.reason}"
        case Timeout() | TimeoutError():
            return f"no answer within {TIMEOUT} seconds"
        case TooManyRedirects():
            return "redirects without end"
        case ConnectionError():
            return "can't be reached"
        case ProtocolError():
            return "broke off"
    return type(error).__name__


def check(file: DataFile, path: Path) -> None:
    check_size(file, path)
    found = sha256(path)
    if found != file.sha256:
        raise SourceError(f"altered: SHA-256 is {found[:8]}..., expected {file.sha256[:8]}...")


def check_size(file: DataFile, path: Path) -> None:
    size = path.stat().st_size
    if size != file.bytes:
        raise SourceError(
            f"{'short' if size < file.bytes else 'long'}: {size:,} bytes, expected {file.bytes:,}"
        )


if __name__ == "__main__":
    run(fetch)
