import io

import numpy as np
import pytest
from PIL import Image

from fashion.core.errors import UserError
from fashion.preprocessing import MAX_PIXELS, preprocess_image, read_picture

RANDOM = np.random.default_rng(0)
GARMENT = np.zeros((28, 28), np.uint8)
GARMENT[4:24, 8:20] = RANDOM.integers(50, 256, (20, 12))


def file(picture: Image.Image, kind="PNG", **options) -> io.BytesIO:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return io.BytesIO(content.getvalue())


def through_a_file(picture, **options):
    return preprocess_image(read_picture(file(picture, **options), "x"), (28, 28))


def test_a_grey_picture_of_the_right_size_stays_as_it_is():
    pixels, steps = through_a_file(Image.fromarray(GARMENT))
    np.testing.assert_array_equal(pixels, GARMENT)
    assert pixels.dtype == np.uint8
    assert steps == []


def test_a_light_ground_is_inverted():
    pixels, steps = through_a_file(Image.fromarray(255 - GARMENT))
    np.testing.assert_array_equal(pixels, GARMENT)
    assert steps == ["light ground inverted"]


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
    assert pixels[0, 0] == 0
    assert (pixels[4:24, 8:20] == 255).all()
    assert steps == ["laid on white", "colour to grey", "light ground inverted"]


@pytest.mark.parametrize("size", [(280, 140), (140, 280), (7, 14), (3000, 28), (1, 1), (1, 500)])
def test_any_size_fits_with_its_longer_side_in_the_middle_of_a_dark_ground(size):
    width, height = size
    picture = Image.new("L", size, 100)
    pixels, steps = through_a_file(picture)
    longer = max(size)
    rows, columns = (pixels > 0).any(axis=1), (pixels > 0).any(axis=0)
    assert rows.sum() == pytest.approx(max(1, 28 * height / longer), abs=1)
    assert columns.sum() == pytest.approx(max(1, 28 * width / longer), abs=1)
    assert abs(int(rows.argmax()) - int(rows[::-1].argmax())) <= 1
    assert steps == [f"{width}x{height} fitted to 28x28"]


def test_shrinking_is_antialiased():
    """Black and white stripes a pixel wide come out grey, not as a pattern."""
    stripes = np.zeros((280, 280), np.uint8)
    stripes[20:-20, 20:-20:2] = 255
    pixels, _ = through_a_file(Image.fromarray(stripes))
    assert (abs(pixels[5:-5, 5:-5].astype(int) - 127) < 10).all()


def test_16_bits_are_scaled_not_cut_off():
    pixels, steps = through_a_file(Image.fromarray(GARMENT.astype(np.uint16) * 257))
    np.testing.assert_array_equal(pixels, GARMENT)
    assert steps == []


def test_a_photograph_is_turned_as_the_camera_noted():
    picture = Image.new("L", (20, 10), 0)
    picture.paste(200, (0, 0, 10, 10))  # light on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    pixels, steps = through_a_file(picture, kind="JPEG", exif=exif)
    assert pixels[:10].mean() > pixels[-10:].mean()  # now at the top
    assert steps[0] == "turned upright"


def test_of_an_animation_the_first_frame_is_taken():
    content = file(
        Image.fromarray(GARMENT), save_all=True, append_images=[Image.fromarray(GARMENT.T.copy())]
    )
    pixels, steps = preprocess_image(read_picture(content, "x"), (28, 28))
    np.testing.assert_array_equal(pixels, GARMENT)
    assert steps == ["first frame taken"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x: not a picture in PNG or JPEG format"),
        (b"<html></html>", "x: not a picture in PNG or JPEG format"),
        (
            file(Image.fromarray(GARMENT), kind="GIF").getvalue(),
            "x: not a picture in PNG or JPEG format",
        ),
        (file(Image.fromarray(GARMENT)).getvalue()[:150], "x: the picture is damaged"),
        (
            file(Image.new("L", (MAX_PIXELS // 100 + 1, 100))).getvalue(),
            "x: claims more pixels than",
        ),
    ],
    ids=["empty", "a page", "GIF", "cut off", "huge"],
)
def test_what_is_no_picture_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        read_picture(io.BytesIO(content), "x")


def test_a_picture_that_claims_to_be_gigantic_is_refused_before_it_is_unpacked():
    """A PNG header of 2,000,000,000 x 2 pixels with nothing behind it."""
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", 2_000_000_000, 2, 8, 0, 0, 0, 0)
    header = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    )
    with pytest.raises(UserError, match="claims more pixels"):
        read_picture(io.BytesIO(header + file(Image.fromarray(GARMENT)).getvalue()[33:]), "x")
