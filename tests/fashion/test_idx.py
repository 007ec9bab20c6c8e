import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashion.core.errors import UserError
from fashion.data.idx import PIECE, iterate_idx, read_idx, write_idx

# Two images of 3 x 1 pixels, byte by byte as the format's description has it.
HEADER = bytes.fromhex("00000803 00000002 00000003 00000001")
VALUES = bytes([10, 20, 30, 40, 50, 60])
IMAGES = np.array([[[10], [20], [30]], [[40], [50], [60]]], np.uint8)
WHOLE = gzip.compress(HEADER + VALUES, mtime=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images-idx3-ubyte.gz"


def test_reads_a_file_written_by_hand(path):
    path.write_bytes(WHOLE)
    images = read_idx(path, (None, 3, 1))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES)


def test_writes_the_bytes_of_the_format(path):
    write_idx(path, IMAGES)
    assert gzip.decompress(path.read_bytes()) == HEADER + VALUES


@pytest.mark.parametrize("shape", [(5,), (0,), (1, 1), (3, 28, 28), (0, 28, 28)])
def test_round_trip(path, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_idx(path, values)
    np.testing.assert_array_equal(read_idx(path, (None,) * len(shape)), values, strict=True)


def test_round_trip_of_a_transposed_view(path):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    write_idx(path, values)
    np.testing.assert_array_equal(read_idx(path, (3, 2)), [[0, 3], [1, 4], [2, 5]])


def test_equal_arrays_give_equal_bytes_under_any_name(tmp_path):
    write_idx(tmp_path / "a.gz", IMAGES)
    write_idx(tmp_path / "b.gz", IMAGES.copy())
    packed = (tmp_path / "a.gz").read_bytes()
    assert packed == (tmp_path / "b.gz").read_bytes()
    assert packed[3:8] == bytes(5)  # RFC 1952: no flags, hence no name, and no time


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, bool])
def test_writes_nothing_but_uint8(path, dtype):
    with pytest.raises(ValueError, match="uint8"):
        write_idx(path, IMAGES.astype(dtype))
    assert not path.exists()


def corrupted(at: int) -> bytes:
    return WHOLE[:at] + bytes([WHOLE[at] ^ 0xFF]) + WHOLE[at + 1 :]


VIOLATIONS = {
    "not gzip": (HEADER + VALUES, "not a whole gzip file (Not a gzipped file"),
    "truncated gzip": (WHOLE[:-9], "not a whole gzip file (Compressed file ended"),
    "truncated checksum": (WHOLE[:-2], "not a whole gzip file (Compressed file ended"),
    "corrupt checksum": (corrupted(-6), "not a whole gzip file (CRC check failed"),
    "corrupt length": (corrupted(-2), "not a whole gzip file (Incorrect length"),
    "corrupt data": (WHOLE[:10] + b"\xff" * 6 + WHOLE[16:], "not a whole gzip file (Error -3"),
    "bytes after the gzip stream": (WHOLE + b"more", "not a whole gzip file (Not a gzipped file"),
    "empty file": (b"", "not an IDX file, it begins with nothing"),
    "empty gzip": (gzip.compress(b""), "not an IDX file, it begins with nothing"),
    "wrong first bytes": (
        gzip.compress(b"\x93NUMPY"),
        "not an IDX file, it begins with 93 4e 55 4d instead of two zero bytes",
    ),
    "wrong second byte": (
        gzip.compress(b"\0\x01" + HEADER[2:] + VALUES),
        "not an IDX file, it begins with 00 01 08 03",
    ),
    "wrong type": (
        gzip.compress(b"\0\0\x0d\x03" + HEADER[4:] + VALUES),
        "values have IDX type 0x0d, expected 0x08 (uint8)",
    ),
    "labels, not images": (
        gzip.compress(b"\0\0\x08\x01\0\0\0\x06" + VALUES),
        "has 1 dimensions, expected 3",
    ),
    "ends in the header": (gzip.compress(HEADER[:-1]), "ends within its header"),
    "other sizes": (
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2, 1, 3) + VALUES),
        "dimensions are 2 x 1 x 3, expected any x 3 x 1",
    ),
    "too short": (
        gzip.compress(HEADER + VALUES[:-1]),
        "the header promises 6 bytes of values, the file has 5",
    ),
    "too long": (
        gzip.compress(HEADER + VALUES + b"\0"),
        "the header promises 6 bytes of values, the file has more",
    ),
}


@pytest.mark.parametrize(("content", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_every_violation_is_told_with_the_file(path, content, message):
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_idx(path, (None, 3, 1))
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_missing_file_is_told(path):
    with pytest.raises(UserError, match="no such file") as error:
        read_idx(path, (None,))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("items", [2**30 + 1, 2**32 - 1])
def test_a_header_that_claims_more_than_there_is_takes_no_memory_for_it(path, memory_below, items):
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", items)))
    with (
        memory_below(2**20),
        pytest.raises(UserError, match=f"promises {items:,} bytes.*file has 0"),
    ):
        read_idx(path, (None,))


@pytest.mark.parametrize("items", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_file_comes_in_pieces_and_whole(path, items):
    values = np.random.default_rng(0).integers(0, 256, (items, 3, 2), np.uint8)
    write_idx(path, values)
    pieces = list(iterate_idx(path, (None, 3, 2)))
    assert len(pieces) == max(1, -(-items // PIECE))
    assert max(map(len, pieces)) <= PIECE
    np.testing.assert_array_equal(np.concatenate(pieces), values, strict=True)
    np.testing.assert_array_equal(read_idx(path, (None, 3, 2)), values, strict=True)


def test_pieces_take_no_memory_for_the_whole(path, memory_below):
    write_idx(path, np.zeros((10 * PIECE, 28, 28), np.uint8))
    with memory_below(5 * PIECE * 28 * 28):
        assert sum(map(len, iterate_idx(path, (None, 28, 28)))) == 10 * PIECE


EDITS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4
)
HEADERS = st.builds(
    struct.pack,
    st.just(">BBBBIII"),
    st.integers(0, 1), st.integers(0, 1), st.sampled_from([8, 9, 13]), st.integers(2, 4),
    st.integers(0, 2**32 - 1) | st.integers(0, 9), st.just(3) | st.integers(0, 2**32 - 1),
    st.just(1),
)  # fmt: skip


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for start, length, replacement in edits:
        content = content[:start] + replacement + content[start + length :]
    return content


BAD_FILES = (
    st.binary(max_size=99)
    | st.binary(max_size=99).map(gzip.compress)
    | st.builds(edited, st.just(WHOLE), EDITS)
    | st.builds(edited, st.just(HEADER + VALUES), EDITS).map(gzip.compress)
    | st.builds(
        lambda header, values: gzip.compress(header + values), HEADERS, st.binary(max_size=30)
    )
)


@settings(
    max_examples=1000, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=BAD_FILES)
def test_generated_files_are_refused_or_read_as_they_are(path, memory_below, content):
    """Never raise another error than UserError, never return other values than the file's own.

    And never take over 2 MiB of memory, never 2 s.
    """
    path.write_bytes(content)
    with memory_below(2**21):
        try:
            images = read_idx(path, (None, 3, 1))
        except UserError as error:
            assert str(path) in str(error)
        else:
            header = bytes([0, 0, 8, 3]) + b"".join(
                size.to_bytes(4, "big") for size in images.shape
            )
            assert gzip.decompress(content) == header + images.tobytes()
            assert images.shape[1:] == (3, 1)
