"""Put the four files of the data set into data/raw, unchanged, from the first source that has them whole.

`python -m stages.fetch`, run by `dvc repro`.
"""

import os
import shutil
import sys
from pathlib import Path

from fashion.errors import UserError
from fashion.files import sha256, written_whole
from stages.params import DataFile, Params
from stages.pipeline import Files, run

VARIABLE = "FASHION_MNIST_DIR"
TIMEOUT = 20  # seconds without a byte from a web address


class SourceError(Exception):
    """Why a source did not give a file."""


def fetch(params: Params, files: Files) -> None:
    sources = [os.environ[VARIABLE]] if os.environ.get(VARIABLE) else []
    sources += params.data.sources
    for _, file in params.data.files:
        fetch_file(file, sources, files["raw"] / file.name)


def fetch_file(file: DataFile, sources: list[str], target: Path) -> None:
    """Copy or download `file` from the first of `sources` that has it as described; report each that has not."""
    reasons = []
    for source in sources:
        try:
            with written_whole(target) as part:
                if "://" in source:
                    download(file, f"{source.rstrip('/')}/{file.name}", part)
                else:
                    copy(file, source, part)
        except SourceError as error:
            reasons.append(f"{source}: {error}")
        else:
            for reason in reasons:
                print(f"fetch: {file.name} not from {reason}", file=sys.stderr)
            return print(f"{file.name} from {source}")
    raise UserError(
        f"no source has {file.name} as params.yaml describes it ({file.bytes:,} bytes, SHA-256 {file.sha256[:8]}...):\n"
        + "\n".join(f"  {reason}" for reason in reasons)
        + f"\nPut the files of the data set into a folder and name it: {VARIABLE}=/path/to/folder dvc repro"
        + "\nWithout them, `make demo` shows the pipeline on drawn garments."
    )


def copy(file: DataFile, folder: str, target: Path) -> None:
    """Copy from a folder. A relative one is looked for from here, then from the project that this workspace lies in."""
    workspaces = [Path.cwd(), *(parent for parent in Path.cwd().parents if (parent / ".dvc").is_dir())]
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
    """Download from a web address, with a progress bar on a terminal."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    fetcher = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity"},  # the file as it is, not unpacked on the way
    )
    try:
        fetcher(url, target, None)
    except requests.RequestException as error:
        raise SourceError(_in_short(error)) from None
    check(file, target)


def _in_short(error: Exception) -> str:
    from requests import ConnectionError, HTTPError, Timeout
    from requests.exceptions import ChunkedEncodingError

    match error:
        case HTTPError():
            return f"{error.response.status_code} {error.response.reason}"
        case Timeout():
            return f"no answer within {TIMEOUT} seconds"
        case ChunkedEncodingError():
            return "broke off"
        case ConnectionError():
            return "can't be reached"
    return type(error).__name__


def check(file: DataFile, path: Path) -> None:
    check_size(file, path)
    found = sha256(path)
    if found != file.sha256:
        raise SourceError(f"altered: SHA-256 is {found[:8]}..., expected {file.sha256[:8]}...")


def check_size(file: DataFile, path: Path) -> None:
    size = path.stat().st_size
    if size != file.bytes:
        raise SourceError(f"{'short' if size < file.bytes else 'long'}: {size:,} bytes, expected {file.bytes:,}")


if __name__ == "__main__":
    run(fetch)
