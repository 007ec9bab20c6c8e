import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fashion.core.errors import UserError
from fashion.preprocessing import MAX_PIXELS, preprocess_image, read_picture

IMAGE = np.zeros((28, 28), np.uint8)
IMAGE[4:24, 8:20] = np.random.default_rng(0).integers(50, 256, (20, 12))


def file(picture: Image.Image, kind="PNG", **options) -> io.BytesIO:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return io.BytesIO(content.getvalue())


def through_a_file(picture: Image.Image, **options) -> tuple[np.ndarray, list[str]]:
    return preprocess_image(read_picture(file(picture, **options), "x"), (28, 28))


@pytest.mark.parametrize(
    ("picture", "options", "expected"),
    [
        (IMAGE, {}, []),
        (255 - IMAGE, {}, ["light ground inverted"]),
        (IMAGE.astype(np.uint16) * 257, {}, []),
        (IMAGE, {"append_images": [Image.fromarray(IMAGE.T.copy())]}, ["first frame taken"]),
    ],
    ids=["as it is", "light ground", "16 bits", "animation"],
)
def test_pixels_of_a_grey_picture_of_the_right_size_are_kept(picture, options, expected):
    pixels, steps = through_a_file(Image.fromarray(picture), save_all=bool(options), **options)
    np.testing.assert_array_equal(pixels, IMAGE)
    assert pixels.dtype == np.uint8 and steps == expected


def test_colour_is_turned_to_grey_by_its_brightness():
    """ITU-R BT.601, as Pillow documents: L = 0.299 R + 0.587 G + 0.114 B."""
    colours = np.zeros((28, 28, 3), np.uint8)
    colours[10:12, 10:13] = (200, 100, 50)
    pixels, steps = through_a_file(Image.fromarray(colours))
    assert pixels[10, 10] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert steps == ["colour to grey"]


def test_what_is_transparent_is_taken_for_white():
    cut_out = np.zeros((28, 28, 4), np.uint8)
    cut_out[4:24, 8:20] = (0, 0, 0, 255)
    pixels, steps = through_a_file(Image.fromarray(cut_out))
    assert pixels[0, 0] == 0 and (pixels[4:24, 8:20] == 255).all()
    assert steps == ["laid on white", "colour to grey", "light ground inverted"]


@pytest.mark.parametrize("size", [(280, 140), (140, 280), (7, 14), (3000, 28), (1, 1), (1, 500)])
def test_any_size_fits_with_its_longer_side_in_the_middle_of_a_dark_ground(size):
    pixels, steps = through_a_file(Image.new("L", size, 100))
    for axis, side in enumerate(size):
        lit = (pixels > 0).any(axis=axis)
        assert lit.sum() == pytest.approx(max(1, 28 * side / max(size)), abs=1)
        assert abs(int(lit.argmax()) - int(lit[::-1].argmax())) <= 1
    assert steps == [f"{size[0]}x{size[1]} fitted to 28x28"]


def test_shrinking_is_antialiased():
    """Black and white stripes a pixel wide come out grey, not as a pattern."""
    stripes = np.zeros((280, 280), np.uint8)
    stripes[20:-20, 20:-20:2] = 255
    pixels, _ = through_a_file(Image.fromarray(stripes))
    assert (abs(pixels[5:-5, 5:-5].astype(int) - 127) < 10).all()


def test_a_photograph_is_turned_as_the_camera_noted():
    picture = Image.new("L", (20, 10), 0)
    picture.paste(200, (0, 0, 10, 10))  # light on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    pixels, steps = through_a_file(picture, kind="JPEG", exif=exif)
    assert pixels[:10].mean() > pixels[-10:].mean()  # now at the top
    assert steps[0] == "turned upright"


def gigantic() -> bytes:
    """Return a PNG file whose header claims 2,000,000,000 x 2 pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 2_000_000_000, 2, 8, 0, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + file(Image.fromarray(IMAGE)).getvalue()[33:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html></html>", "x: not a picture in PNG or JPEG format"),
        (file(Image.fromarray(IMAGE), "GIF").getvalue(), "x: not a picture in PNG or JPEG format"),
        (file(Image.fromarray(IMAGE)).getvalue()[:150], "x: the picture is corrupted"),
        (file(Image.new("L", (MAX_PIXELS // 100 + 1, 100))).getvalue(), "x: has more pixels than"),
        (gigantic(), "x: has more pixels than"),
    ],
    ids=["a page", "GIF", "cut off", "huge", "gigantic"],
)
def test_what_is_no_picture_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        read_picture(io.BytesIO(content), "x")
