import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashion.core.errors import FileError, UserError
from fashion.data.idx import PIECE, iterate_idx, read_idx, write_idx

# Two images of 3 x 1 pixels, byte by byte as the description of the format has it.
HEADER = bytes.fromhex("00000803 00000002 00000003 00000001")
VALUES = bytes([10, 20, 30, 40, 50, 60])
IMAGES = np.array([[[10], [20], [30]], [[40], [50], [60]]], np.uint8)
WHOLE = gzip.compress(HEADER + VALUES, mtime=0)


@pytest.fixture
def path(tmp_path):
    """Return the path of a file of images that does not exist yet."""
    return tmp_path / "images-idx3-ubyte.gz"


def test_files_have_the_bytes_of_the_format_and_nothing_else(path, tmp_path):
    """Packed files have neither their name nor the time, and a view is written like a copy."""
    write_idx(tmp_path / "plain", IMAGES)
    assert (tmp_path / "plain").read_bytes() == HEADER + VALUES
    write_idx(path, np.repeat(IMAGES, 2, axis=1)[:, ::2])
    packed = path.read_bytes()
    assert gzip.decompress(packed) == HEADER + VALUES
    assert packed[3:8] == bytes(5)  # RFC 1952: no flags, hence no name, and no time
    for file in (tmp_path / "plain", path):
        np.testing.assert_array_equal(read_idx(file, (None, 3, 1)), IMAGES, strict=True)
    with pytest.raises(ValueError, match="uint8"):
        write_idx(path, IMAGES.astype(np.int64))
    assert path.read_bytes() == packed


@pytest.mark.parametrize("items", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("item", [(), (3, 2)])
def test_a_written_file_comes_back_in_pieces_and_whole(path, items, item):
    values = np.random.default_rng(0).integers(0, 256, (items, *item), np.uint8)
    write_idx(path, values)
    pieces = list(iterate_idx(path, (None, *item)))
    assert len(pieces) == max(1, -(-items // PIECE))
    assert max(map(len, pieces)) <= PIECE
    np.testing.assert_array_equal(np.concatenate(pieces), values, strict=True)
    np.testing.assert_array_equal(read_idx(path, (items, *item)), values, strict=True)


def test_pieces_take_less_memory_than_the_whole(path, memory_below):
    write_idx(path, np.zeros((10 * PIECE, 28, 28), np.uint8))
    with memory_below(5 * PIECE * 28 * 28):
        assert sum(map(len, iterate_idx(path, (None, 28, 28)))) == 10 * PIECE


BROKEN = "not a whole gzip file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (WHOLE[:-2], f"{BROKEN} (Compressed file ended"),
        (WHOLE[:-8] + b"oops" + WHOLE[-4:], f"{BROKEN} (CRC check failed"),
        (WHOLE[:10] + b"\xff" * 6 + WHOLE[16:], f"{BROKEN} (Error -3"),
        (WHOLE + b"more", f"{BROKEN} (Not a gzipped file"),
        (b"", "not an IDX file. It begins with nothing"),
        (b"\x93NUMPY", "not an IDX file. It begins with 93 4e 55 4d instead of two zero bytes"),
        (b"\0\0\x0d\x03" + HEADER[4:], "values have IDX type 0x0d, expected 0x08 (uint8)"),
        (b"\0\0\x08", "ends within its header"),
        (HEADER[:-1], "ends within its header"),
        (b"\0\0\x08\x01\0\0\0\x06" + VALUES, "dimensions are 6, expected any x 3 x 1"),
        (HEADER[:-1] + b"\x03" + VALUES, "dimensions are 2 x 3 x 3, expected any x 3 x 1"),
        (HEADER + VALUES[:-1], "the header promises 6 bytes of values, the file has 5"),
        (HEADER + VALUES + b"\0", "the header promises 6 bytes of values, the file has more"),
    ],
)
def test_a_missing_corrupted_or_other_file_is_reported(path, content, message):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_idx(path, (None, 3, 1))
    assert str(error.value).startswith(f"{path}: {message}")
    assert isinstance(error.value, FileError) == (content is None or message.startswith(BROKEN))


EDITS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4
)


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Replace bytes: an edit is where to begin, how many, and by what."""
    for start, length, replacement in edits:
        content = content[:start] + replacement + content[start + length :]
    return content


BAD_FILES = (
    st.binary(max_size=99)
    | st.binary(max_size=99).map(gzip.compress)
    | st.builds(edited, st.just(WHOLE), EDITS)
    | st.builds(edited, st.just(HEADER + VALUES), EDITS).map(gzip.compress)
)


@settings(
    max_examples=1000, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=BAD_FILES)
def test_generated_files_are_refused_or_read_as_they_are(path, memory_below, content):
    """No other error than UserError, no other values, at most 2 s and 2 MiB."""
    path.write_bytes(content)
    with memory_below(2**21):  # whatever the header claims
        try:
            images = read_idx(path, (None, 3, 1))
        except UserError as error:
            assert str(path) in str(error)
        else:
            sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
            assert gzip.decompress(content) == bytes([0, 0, 8, 3]) + sizes + images.tobytes()
            assert images.shape[1:] == (3, 1)
