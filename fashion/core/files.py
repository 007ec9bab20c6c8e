"""Files that appear whole or not at all, and their fingerprints."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MIN_FREE_BYTES = 2**20  # bytes free


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, which takes the place of `path` at the end.

    It does so when the block ends without an error. The suffix stays (`model.keras` is written as
    `model.part.keras`), since writers choose the format by it. The name is always the same, so what
    a killed run leaves behind is overwritten by the next one.
    """
    tmp_path = path.with_name(f"{path.stem}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with with_filename(path):
            yield tmp_path
            tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)


@contextmanager
def with_filename(path: Path) -> Iterator[None]:
    """Name the file in an error of the operating system that does not.

    A full disk is told without one. NumPy does not even say that the disk is full ("1024 requested
    and 512 written"); here it does.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and shutil.disk_usage(path.parent).free < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if error.errno is not None:
            error.filename = error.filename or str(path)
        raise


def write_json(path: Path, values: dict) -> None:
    """Write `values` as JSON, indented, in the order given, fractions with at most six decimals.

    So few also because NumPy, BLAS and SciPy choose their kernels by instruction set, and these
    differ in a sum's last bits, nine decimals further on. NaN and infinity are refused with
    ValueError: they are not JSON.
    """
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(
            json.dumps(_rounded(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def write_csv(path: Path, table: "pd.DataFrame | Iterable[pd.DataFrame]") -> None:
    """Write a table as CSV without its index; or several of the same columns, one by one, as one.

    Line ends are line feeds, fractions have six decimals (see `write_json`).
    """
    tables = [table] if hasattr(table, "to_csv") else table
    with atomic_write(path) as tmp_path, tmp_path.open("w", encoding="utf-8", newline="") as file:
        for i, table in enumerate(tables):
            table.to_csv(file, index=False, header=i == 0, lineterminator="\n", float_format="%.6f")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, as 32 hexadecimal digits: DVC's name for the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _rounded(value):
    match value:
        case float():
            return round(value, 6)
        case dict():
            return {name: _rounded(item) for name, item in value.items()}
        case list():
            return [_rounded(item) for item in value]
    return value
