import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fashion.core.dataset import Description
from fashion.core.errors import UserError
from fashion.preprocessing import MAX_PIXELS, ORIENTATION, preprocess_image, read_picture

IMAGE = np.zeros((28, 28), np.uint8)
IMAGE[4:24, 8:20] = np.random.default_rng(0).integers(50, 256, (20, 12))


def file(picture: Image.Image, kind="PNG", **options) -> io.BytesIO:
    """Return a picture as the content of a file."""
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return io.BytesIO(content.getvalue())


def data(**keys) -> Description:
    """Return the description of 28x28 images with these keys."""
    return Description(name="x", image_shape=(28, 28), class_names=["a", "b"], **keys)


def through_a_file(
    picture, ground="dark", fit="pad", transparent="white", **options
) -> tuple[np.ndarray, list[str]]:
    """Return the pixels of a picture that was written to a file, and the steps taken."""
    target = data(ground=ground, fit=fit, transparency=transparent)
    return preprocess_image(read_picture(file(picture, **options), "x"), target)


@pytest.mark.parametrize("ground", ["dark", "light", "any"])
@pytest.mark.parametrize("image", [IMAGE, 255 - IMAGE], ids=["dark", "light"])
def test_a_grey_picture_of_the_right_size_is_an_image_of_the_data_set(image, ground):
    pixels, steps = through_a_file(Image.fromarray(image), ground)
    np.testing.assert_array_equal(pixels, image)
    assert pixels.dtype == np.uint8 and steps == []


@pytest.mark.parametrize("image", [IMAGE, 255 - IMAGE], ids=["dark", "light"])
@pytest.mark.parametrize(("ground", "edge"), [("dark", 0), ("light", 255), ("any", None)])
def test_another_picture_is_inverted_to_the_ground_of_the_data_set(image, ground, edge):
    colours = Image.fromarray(image).convert("RGB")
    pixels, steps = through_a_file(colours, ground)
    assert pixels[0, 0] == (image[0, 0] if edge is None else edge)
    expected = ("dark" if image[0, 0] == 0 else "light") + " ground inverted"
    assert steps == ["colour to grey"] + ([expected] if pixels[0, 0] != image[0, 0] else [])
    wide, _ = through_a_file(Image.fromarray(np.hstack([image, image])), ground)
    assert wide[0, 0] == pixels[0, 0]  # the ground goes on above and below


def test_of_an_animation_the_first_frame_is_taken():
    second = Image.fromarray(IMAGE.T.copy())
    pixels, steps = through_a_file(Image.fromarray(IMAGE), save_all=True, append_images=[second])
    np.testing.assert_array_equal(pixels, IMAGE)
    assert steps == ["first frame taken"]


def test_16_bits_with_a_transparent_value_are_filled_and_low_contrast_is_reported():
    values = IMAGE.astype(np.uint16) * 257
    pixels, steps = through_a_file(Image.fromarray(values), "any", transparency=0)
    assert (pixels[IMAGE == 0] == 255).all() and (pixels[IMAGE > 0] == IMAGE[IMAGE > 0]).all()
    assert steps == ["16 bits to 8", "laid on white"]
    black, _ = through_a_file(Image.fromarray(values), "any", "pad", "black", transparency=0)
    np.testing.assert_array_equal(black, IMAGE)
    pixels, steps = through_a_file(Image.fromarray(values // 128))  # a camera may use few bits
    assert pixels.max() <= 2 and steps == ["16 bits to 8", "hardly any contrast"]


@pytest.mark.parametrize("transparent", ["white", "black"])
def test_transparent_pixels_are_filled_and_colours_grey_by_their_brightness(transparent):
    """Pillow documents ITU-R BT.601: L = 0.299 R + 0.587 G + 0.114 B."""
    cut_out = np.zeros((28, 28, 4), np.uint8)
    cut_out[4:24, 8:20] = (200, 100, 50, 255)
    pixels, steps = through_a_file(Image.fromarray(cut_out), "dark", "pad", transparent)
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    inverted = transparent == "white"
    assert pixels[0, 0] == 0 and (pixels[4:24, 8:20] == (255 - grey if inverted else grey)).all()
    steps_before = [f"laid on {transparent}", "colour to grey"]
    assert steps == steps_before + ["light ground inverted"] * inverted


@pytest.mark.parametrize("size", [(280, 140), (300, 900)])
def test_any_size_fits_with_its_longer_side_and_is_centred_on_its_ground(size):
    picture = Image.new("L", size, 200)
    inner = [side - 2 * (min(size) // 20) for side in size]
    ImageDraw.Draw(picture).rectangle([min(size) // 20] * 2 + inner, fill=20)
    pixels, steps = through_a_file(picture)
    for axis, side in enumerate(size):
        lit = (pixels > 120).any(axis=axis)
        assert lit.sum() == pytest.approx(28 * side / max(size), abs=2.5)
        assert abs(int(lit.argmax()) - int(lit[::-1].argmax())) <= 2
    assert steps == ["light ground inverted", f"{size[0]}x{size[1]} fitted to 28x28"]
    assert through_a_file(Image.new("L", (1, 500), 100))[0].shape == (28, 28)


@pytest.mark.parametrize(
    ("fit", "done", "size"),
    [
        ("pad", "fitted", (7, 14)),
        ("crop", "cropped", (14, 28)),
        ("stretch", "stretched", (7, 28)),
    ],
)
def test_other_proportions_are_padded_cropped_or_stretched(fit, done, size):
    """Of a picture twice as wide as high, the middle quarter is light."""
    picture = Image.new("L", (112, 56), 100)
    picture.paste(200, (42, 0, 70, 56))
    pixels, steps = through_a_file(picture, "any", fit)
    light = pixels > 150
    found = light.any(axis=0).sum(), light.any(axis=1).sum()  # width and height
    assert found == pytest.approx(size, abs=1)
    assert steps == [f"112x56 {done} to 28x28"]


def test_shrinking_is_antialiased_and_equal_for_every_fit():
    """Black and white stripes, one pixel wide, become grey, not another pattern."""
    stripes = np.zeros((280, 280), np.uint8)
    stripes[20:-20, 20:-20:2] = 255
    pixels, *others = (
        through_a_file(Image.fromarray(stripes), fit=fit)[0] for fit in ("pad", "crop", "stretch")
    )
    assert (abs(pixels[5:-5, 5:-5].astype(int) - 127) < 10).all()
    assert all(np.array_equal(pixels, other) for other in others)


def test_a_photograph_is_turned_as_the_camera_noted():
    picture = Image.new("L", (20, 10), 0)
    picture.paste(200, (0, 0, 10, 10))  # light on the left
    exif = Image.Exif()
    for orientation, turns in ((6, 1), (3, 2)):  # by 90 degrees clockwise, by 180 degrees
        exif[ORIENTATION] = orientation
        pixels, steps = through_a_file(picture, "any", kind="JPEG", exif=exif)
        upright = np.rot90(pixels, turns)  # turned back
        assert upright[:, :10].mean() > upright[:, -10:].mean()
        assert steps[0] == "turned upright"


def test_a_jpeg_file_with_very_many_pixels_is_read_smaller():
    picture = Image.new("L", (12_000, 9000), 30)
    picture.paste(220, (4000, 3000, 8000, 6000))
    pixels, steps = through_a_file(picture, kind="JPEG")
    assert pixels[14, 14] > 200 and pixels[14, 2] < 40
    assert steps == ["1500x1125 fitted to 28x28"]


def altered(seed: int) -> bytes:
    """Return a PNG or JPEG file with EXIF, of various modes, in which bytes are changed."""
    random = np.random.default_rng(seed)
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = int(random.integers(1, 9)), "A camera"
    modes = ["L", "RGB", "RGBA", "P", "I;16", "1", "LA"]
    mode, kind = (modes[seed // 2 % len(modes)], "PNG") if seed % 2 else ("RGB", "JPEG")
    picture = Image.fromarray(random.integers(0, 256, (40, 30), np.uint8)).convert(mode)
    content = bytearray(file(picture, kind, exif=exif).getvalue())
    for place in random.integers(2, len(content), 1 + seed % 6):
        content[place] = random.integers(256)
    return bytes(content[: len(content) - (seed % 5 == 0) * int(random.integers(9, 400))])


def test_altered_files_are_read_or_refused_by_name():
    outcomes = []
    for seed in range(200):
        try:
            picture = read_picture(io.BytesIO(altered(seed)), f"picture {seed}")
            pixels, _ = preprocess_image(picture, data())
            outcomes.append(pixels.shape)
        except UserError as error:
            assert str(error).startswith(f"picture {seed}: ")
            outcomes.append("refused")
    assert 20 < outcomes.count("refused") < 180 and set(outcomes) == {(28, 28), "refused"}


RATIO_AS_MAKER = b"\1\x0f\0\5\0\0\0\1\0\0\0\0"  # which Pillow can't write again
UPRIGHT = b"\1\x12\0\3\0\0\0\1\0\6\0\0"
BROKEN = b"MM\0*\0\0\0\x08\0\2" + RATIO_AS_MAKER + UPRIGHT


@pytest.mark.parametrize("tiff", [b"II*\0\x08\0\0\0\xff\xff", b"nonsense", BROKEN])
def test_a_broken_exif_is_ignored(tiff):
    content = file(Image.fromarray(IMAGE).convert("RGB"), "JPEG").getvalue()
    body = b"Exif\0\0" + tiff
    exif = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    picture = read_picture(io.BytesIO(content[:2] + exif + content[2:]), "x")
    pixels, steps = preprocess_image(picture, data())
    assert abs(pixels.astype(int) - IMAGE).mean() < 9
    assert ("broken EXIF ignored" in steps) == (tiff == BROKEN)


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
        (file(Image.new("L", (MAX_PIXELS // 100 + 1, 100))).getvalue(), "x: has more than"),
        (gigantic(), "x: has more than"),
    ],
    ids=["a page", "GIF", "cut off", "huge", "gigantic"],
)
def test_a_file_that_is_not_a_usable_picture_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        read_picture(io.BytesIO(content), "x")
