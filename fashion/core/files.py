"""Write files whole or not at all, read tables, and hash files."""

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fashion.core.errors import FileError

if TYPE_CHECKING:
    import pandas as pd

MIN_FREE_BYTES = 2**20  # a disk with less is full
TEXT_COLUMNS = ("actual", "predicted", "class", "experiment", "environment", "sweep", "best_trial")
DECIMALS = 6  # of written fractions; CPUs differ in the last bits of a sum, nine decimals later


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` when the block succeeds.

    The temporary path keeps the suffix (`model.part.keras`), since writers choose the format by it.
    Its name is always the same, so the next run overwrites what a killed one left. An OSError names
    `path`. A full disk becomes an ENOSPC error, also where NumPy raises one without a number ("1024
    requested and 512 written").
    """
    tmp_path = path.with_name(f"{path.stem}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield tmp_path
        tmp_path.replace(path)
    except OSError as error:
        if error.errno is None and shutil.disk_usage(path.parent).free < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if error.errno is not None:
            error.filename = error.filename or str(path)
        raise
    finally:
        tmp_path.unlink(missing_ok=True)


def write_json(path: Path, values: dict) -> None:
    """Write `values` as indented JSON, in the order given, with at most six decimals.

    Raises ValueError for NaN and infinity, which are not JSON.
    """
    rounded = json.loads(
        json.dumps(values, allow_nan=False), parse_float=lambda text: round(float(text), DECIMALS)
    )
    text = json.dumps(rounded, indent=2, ensure_ascii=False)
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(f"{text}\n", encoding="utf-8")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV, without its index, with line feeds and six decimals."""
    with atomic_write(path) as tmp_path:
        table.to_csv(tmp_path, index=False, lineterminator="\n", float_format=f"%.{DECIMALS}f")


def read_csv(source: Path | str | bytes) -> "pd.DataFrame":
    """Return a table that `write_csv` wrote, from its path or content. Names such as NA stay text.

    Raises FileError if it is missing or corrupted.
    """
    import pandas as pd  # slow, so only where it is needed

    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        if b"\n<<<<<<< " in b"\n" + content:
            raise ValueError("it has conflicts of a merge")
        columns = pd.read_csv(io.BytesIO(content), nrows=0).columns
        texts = [column for column in columns if column in TEXT_COLUMNS]
        missing = {column: [""] for column in columns.difference(texts)}  # only of numbers
        style = {"dtype": dict.fromkeys(texts, str), "keep_default_na": False}
        return pd.read_csv(io.BytesIO(content), na_values=missing, **style)
    except (FileNotFoundError, ValueError) as error:
        raise FileError(f"{source}: missing or corrupted ({error})") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """Return the MD5 of a file's bytes, as 32 hexadecimal digits, as in dvc.lock."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
