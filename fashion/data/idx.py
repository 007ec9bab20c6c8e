"""The IDX format, in which the MNIST family of data sets is published, gzip-compressed.

A file is a header and then the raw values: two zero bytes, a byte for the type (8 for uint8), a
byte for the number of dimensions, then each dimension's size as a big-endian 32-bit integer.
Source: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fashion.core.errors import UserError
from fashion.core.files import atomic_write

UINT8 = 0x08
PIECE = 1000  # items read at a time; bounds memory


def iterate_idx(path: Path, dimensions: tuple[int | None, ...]) -> Iterator[np.ndarray]:
    """Read a gzip-compressed IDX file of uint8 values in pieces, and take nothing on trust.

    `dimensions` is the shape that the file must have, None for a size that is not known beforehand:
    (None, 28, 28) for 28x28 images, (None,) for labels. Yields uint8 arrays of that shape, of up to
    PIECE items each and at least one; so memory does not grow with the file, whatever its header
    claims. Raises UserError naming the file and what differs: not gzip, damaged, wrong magic
    number, type, dimensions or length. What is wrong at the end is told at the end.
    """
    with _open_idx(path) as file:
        left, *item = _read_shape(file, path, dimensions)
        length, found = math.prod([left, *item]), 0
        while True:
            piece = (min(left, PIECE), *item)
            values = file.read(math.prod(piece))
            found += len(values)
            if len(values) < math.prod(piece):
                raise UserError(_wrong_length(path, length, f"{found:,}"))
            left -= piece[0]
            if left == 0 and file.read(1):
                raise UserError(_wrong_length(path, length, "more"))
            yield np.frombuffer(values, np.uint8).reshape(piece)
            if left == 0:
                return


def read_idx(path: Path, dimensions: tuple[int | None, ...]) -> np.ndarray:
    """Read a whole IDX file as `iterate_idx` does, as one array of shape `dimensions`."""
    return np.concatenate(list(iterate_idx(path, dimensions)))


def read_idx_shape(path: Path, dimensions: tuple[int | None, ...] | None = None) -> tuple[int, ...]:
    """Return the dimensions that an IDX file's header names, without reading its values.

    Raises UserError where the file is missing, its header is not one, or not of `dimensions`.
    """
    with _open_idx(path) as file:
        return _read_shape(file, path, dimensions)


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write a uint8 array as a gzip-compressed IDX file.

    Equal arrays give equal bytes: no name or time is stored.
    """
    if values.dtype != np.uint8:
        raise ValueError(f"IDX files are written from uint8, not {values.dtype}")
    header = bytes([0, 0, UINT8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    packed = gzip.compress(header + values.tobytes(), compresslevel=6, mtime=0)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(packed)


@contextmanager
def _open_idx(path: Path) -> Iterator[gzip.GzipFile]:
    try:
        with gzip.open(path, "rb") as file:
            yield file
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file. `dvc repro` makes it again") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: not a whole gzip file ({error}). `dvc repro` fetches it again"
        ) from None


def _read_shape(
    file: gzip.GzipFile, path: Path, dimensions: tuple[int | None, ...] | None = None
) -> tuple[int, ...]:
    magic = file.read(4)
    if magic[:2] != b"\0\0":
        raise UserError(
            f"{path}: not an IDX file, it begins with {magic.hex(' ') or 'nothing'}"
            " instead of two zero bytes"
        )
    if len(magic) < 4:
        raise UserError(f"{path}: ends within its header")
    if magic[2] != UINT8:
        raise UserError(
            f"{path}: values have IDX type 0x{magic[2]:02x}, expected 0x{UINT8:02x} (uint8)"
        )
    if dimensions and magic[3] != len(dimensions):
        raise UserError(f"{path}: has {magic[3]} dimensions, expected {len(dimensions)}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise UserError(f"{path}: ends within its header")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if any(
        wanted not in (None, size) for size, wanted in zip(shape, dimensions or shape, strict=True)
    ):
        raise UserError(f"{path}: dimensions are {_text(shape)}, expected {_text(dimensions)}")
    return shape


def _wrong_length(path: Path, length: int, found: str) -> str:
    return f"{path}: the header promises {length:,} bytes of values, the file has {found}"


def _text(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)
