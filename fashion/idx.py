"""The IDX format, in which the MNIST family of data sets is published, gzip-compressed.

A file is a header and then the raw values: two zero bytes, a byte for the type (8 for uint8), a
byte for the number of dimensions, then each dimension's size as a big-endian 32-bit integer.
Source: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from fashion.errors import UserError
from fashion.files import atomic_write

UINT8 = 0x08
# bytes; a header that claims more is taken for damage, before memory is spent on it
MAX_BYTES = 2**30


def read_idx(path: Path, dimensions: tuple[int | None, ...]) -> np.ndarray:
    """Read a gzip-compressed IDX file of uint8 values, and take nothing on trust.

    `dimensions` is the shape that the file must have, None for a size that is not known beforehand:
    (None, 28, 28) for 28x28 images, (None,) for labels. Returns a uint8 array of that shape. Raises
    UserError naming the file and what differs: not gzip, damaged, wrong magic number, type,
    dimensions or length.
    """
    try:
        with gzip.open(path, "rb") as file:
            shape = _read_shape(file, path, len(dimensions))
            if any(
                wanted not in (None, size) for size, wanted in zip(shape, dimensions, strict=True)
            ):
                raise UserError(
                    f"{path}: dimensions are {_text(shape)}, expected {_text(dimensions)}"
                )
            length = math.prod(shape)
            if length > MAX_BYTES:
                raise UserError(
                    f"{path}: the header claims {length:,} bytes of values, more than {MAX_BYTES:,}"
                )
            values = file.read(length)
            if len(values) < length or file.read(1):
                found = "more" if len(values) == length else f"{len(values):,}"
                raise UserError(
                    f"{path}: the header promises {length:,} bytes of values, the file has {found}"
                )
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file. `dvc repro` makes it again") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: not a whole gzip file ({error}). `dvc repro` fetches it again"
        ) from None
    return np.frombuffer(values, np.uint8).reshape(shape)


def read_idx_shape(path: Path) -> tuple[int, ...]:
    """Return the dimensions that an IDX file's header names, without reading its values.

    Raises UserError where the file is missing or its header is not one.
    """
    try:
        with gzip.open(path, "rb") as file:
            return _read_shape(file, path)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})") from None


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


def _read_shape(
    file: gzip.GzipFile, path: Path, number_of_dimensions: int | None = None
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
    number_of_dimensions = magic[3] if number_of_dimensions is None else number_of_dimensions
    if magic[3] != number_of_dimensions:
        raise UserError(f"{path}: has {magic[3]} dimensions, expected {number_of_dimensions}")
    sizes = file.read(4 * number_of_dimensions)
    if len(sizes) < 4 * number_of_dimensions:
        raise UserError(f"{path}: ends within its header")
    return struct.unpack(f">{number_of_dimensions}I", sizes)


def _text(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)
