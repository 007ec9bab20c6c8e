"""Turn pictures of any size and kind into grey images of one size, as the network takes them.

The steps are those that made Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST: a Novel
Image Dataset for Benchmarking Machine Learning Algorithms", section 2), without its trimming and
sharpening. What is done belongs to the data set: image_shape, ground, fit and transparency in
dataset.yaml.
"""

from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fashion.core.dataset import Description, Fit, Transparency
from fashion.core.errors import UserError

MAX_PIXELS = 50_000_000  # the most that a decoded picture may have; bounds memory
REDUCTION = 8  # the most by which a JPEG decoder can shrink each side
ORIENTATION = 0x0112  # EXIF's tag
DONE = {"pad": "fitted", "crop": "cropped", "stretch": "stretched"}  # in words
LOW_CONTRAST = 10  # of 255, between the darkest and the lightest pixel

Image.MAX_IMAGE_PIXELS = None  # read_picture compares with MAX_PIXELS before it decodes


def read_picture(file: BinaryIO, name: str) -> Image.Image:
    """Decode a PNG or JPEG file; a JPEG file with more than MAX_PIXELS is decoded smaller.

    Raises UserError naming `name` if the file has another format, is corrupted or too large.
    """
    try:
        picture = Image.open(file, formats=("PNG", "JPEG"))
        if picture.width * picture.height > MAX_PIXELS:
            picture.draft(picture.mode, [side // REDUCTION for side in picture.size])  # JPEG's
        if is_small := picture.width * picture.height <= MAX_PIXELS:
            picture.load()
    except UnidentifiedImageError:
        raise UserError(f"{name}: not a picture in PNG or JPEG format") from None
    except Exception as error:  # a decoder may raise anything
        raise UserError(f"{name}: the picture is corrupted ({error})") from None
    if not is_small:
        raise UserError(f"{name}: has more than {MAX_PIXELS:,} pixels. Make it smaller")
    return picture


def turn_upright(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return a picture turned as its camera noted, and the steps, in words."""
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)
        turned = ImageOps.exif_transpose(picture)
    except Exception:  # Pillow's reader of EXIF may raise anything
        return picture, ["broken EXIF ignored"]
    return turned, ["turned upright"] if orientation in range(2, 9) else []


def preprocess_image(
    picture: Image.Image, data: Description, may_keep: bool = True
) -> tuple[np.ndarray, list[str]]:
    """Return a picture as an image of a data set, uint8 (height, width), and the steps, in words.

    It is turned as its camera noted, laid on white or black where transparent, made grey, inverted
    if its edge differs from the ground, and resized with antialiasing. If it has other proportions,
    it is padded with the grey of its edge, cropped at the centre, or stretched. A grey picture of
    the right size stays as it is if `may_keep`, so that an image of the data set does not change.
    """
    steps = ["first frame taken"] if getattr(picture, "n_frames", 1) > 1 else []
    turned, more = turn_upright(picture)
    grey, even_more = _grey(turned, data.transparency)
    steps += more + even_more
    height, width = data.image_shape
    if may_keep and not steps and grey.size == (width, height):
        return np.asarray(grey, np.uint8), steps
    if data.ground != "any" and (_edge(grey) > 127) != (data.ground == "light"):
        steps.append(f"{'light' if data.ground == 'dark' else 'dark'} ground inverted")
        grey = ImageOps.invert(grey)
    if grey.size != (width, height):
        steps.append(f"{grey.width}x{grey.height} {DONE[data.fit]} to {width}x{height}")
        grey = _fitted(grey, (width, height), data.fit)
    pixels = np.asarray(grey, np.uint8)
    if int(pixels.max()) - int(pixels.min()) < LOW_CONTRAST:
        steps.append("hardly any contrast")
    return pixels, steps


def _grey(picture: Image.Image, ground: Transparency) -> tuple[Image.Image, list[str]]:
    """Return a picture with 8 bits per pixel, laid on white or black, and the steps taken."""
    steps = []
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        # scaled by hand, since Pillow would clip values above 255
        values = np.asarray(picture).astype(np.float64)
        pixels = (values.clip(0, 65535) / 257).round().astype(np.uint8)
        steps.append("16 bits to 8")
        if "transparency" in picture.info:
            pixels[values == picture.info["transparency"]] = 255 if ground == "white" else 0
            steps.append(f"laid on {ground}")
        return Image.fromarray(pixels), steps
    is_grey = picture.mode in ("1", "L", "LA", "F")
    if picture.has_transparency_data:
        cut_out = picture.convert("RGBA")
        below = Image.new("RGBA", cut_out.size, ground)
        picture = Image.alpha_composite(below, cut_out).convert("RGB")
        steps.append(f"laid on {ground}")
    return picture.convert("L"), steps + ([] if is_grey else ["colour to grey"])


def _fitted(grey: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Return a picture of `size`, width and height."""
    lanczos = Image.Resampling.LANCZOS
    if fit == "pad":
        longest = 2 * size[0] * grey.height - 1, 2 * size[1] * grey.width - 1
        grey = grey.resize([*map(min, grey.size, longest)], lanczos)  # or padding leaves no pixel
        return ImageOps.pad(grey, size, lanczos, round(_edge(grey)))
    return ImageOps.fit(grey, size, lanczos) if fit == "crop" else grey.resize(size, lanczos)


def _edge(grey: Image.Image) -> float:
    """Return the median of the pixels along a picture's edge, 0 to 255."""
    pixels = np.asarray(grey)
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))
