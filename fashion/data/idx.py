"""Read and write IDX, the format of the MNIST family of data sets, packed by gzip or not.

A file is a header and then the raw values. The header is two zero bytes, a byte for the type (8 for
uint8), a byte for the number of dimensions, and each dimension's size as a big-endian 32-bit
integer. Source: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fashion.core.errors import FileError, UserError
from fashion.core.files import atomic_write

UINT8 = 0x08
GZIP = b"\x1f\x8b"  # the first bytes of a packed file
PIECE = 1000  # items read at a time; bounds memory
Shape = tuple[int | None, ...]  # None is an unknown size


def iterate_idx(path: Path, dimensions: Shape) -> Iterator[np.ndarray]:
    """Read an IDX file of uint8 values in pieces, strictly.

    `dimensions` is the shape that the file must have, with None for an unknown size: (None, 28, 28)
    for 28x28 images, (None,) for labels. Yields uint8 arrays of that shape with at most PIECE
    items, so memory does not grow with the file, whatever its header claims. A file without items
    gives one empty array. Raises FileError if the file is missing or corrupted, and UserError if
    its magic number, type, dimensions or length are wrong; a wrong length is found at the end.
    """
    with _open_idx(path, dimensions) as (file, (left, *item)):
        length, found = math.prod([left, *item]), 0
        while True:
            piece = (min(left, PIECE), *item)
            values = file.read(math.prod(piece))
            found += len(values)
            left -= piece[0]
            short = len(values) < math.prod(piece)
            if short or (left == 0 and file.read(1)):
                raise UserError(
                    f"{path}: the header promises {length:,} bytes of values,"
                    f" the file has {f'{found:,}' if short else 'more'}"
                )
            yield np.frombuffer(values, np.uint8).reshape(piece)
            if left == 0:
                return


def read_idx(path: Path, dimensions: Shape) -> np.ndarray:
    """Read a whole IDX file as `iterate_idx` does, as one array of shape `dimensions`."""
    return np.concatenate(list(iterate_idx(path, dimensions)))


def read_idx_shape(path: Path, dimensions: Shape | None = None) -> tuple[int, ...]:
    """Return the dimensions in an IDX file's header, without reading its values.

    Raises FileError if the file is missing, and UserError if its header is wrong or does not fit
    `dimensions`.
    """
    with _open_idx(path, dimensions) as (_, shape):
        return shape


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write a uint8 array as an IDX file, packed by gzip if its name ends with .gz.

    Equal arrays give equal bytes. The bytes of packed files also depend on the version of zlib.
    """
    if values.dtype != np.uint8:
        raise ValueError(f"IDX files are written from uint8, not {values.dtype}")
    header = bytes([0, 0, UINT8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(content)


@contextmanager
def _open_idx(path: Path, dimensions: Shape | None) -> Iterator[tuple[BinaryIO, Shape]]:
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == GZIP
        with gzip.open(path) if is_packed else path.open("rb") as file:
            yield file, _read_shape(file, path, dimensions)
    except (FileNotFoundError, IsADirectoryError):
        raise FileError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FileError(f"{path}: not a whole gzip file ({error})") from None


def _read_shape(file: BinaryIO, path: Path, dimensions: Shape | None) -> tuple[int, ...]:
    magic = file.read(4)
    if magic[:2] != b"\0\0":
        found = magic.hex(" ") or "nothing"
        raise UserError(
            f"{path}: not an IDX file. It begins with {found} instead of two zero bytes"
        )
    sizes = file.read(4 * magic[3]) if len(magic) == 4 else b""
    if len(magic) < 4 or len(sizes) < 4 * magic[3]:
        raise UserError(f"{path}: ends within its header")
    if magic[2] != UINT8:
        raise UserError(
            f"{path}: values have IDX type 0x{magic[2]:02x}, expected 0x{UINT8:02x} (uint8)"
        )
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if dimensions and (
        len(shape) != len(dimensions)
        or any(size not in (None, found) for size, found in zip(dimensions, shape, strict=True))
    ):
        raise UserError(f"{path}: dimensions are {_text(shape)}, expected {_text(dimensions)}")
    return shape


def _text(shape: Shape) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape) or "none"
