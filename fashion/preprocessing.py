"""Turn pictures of any size and kind into what the network knows: light on dark, grey, small.

The steps are those by which the data set was made (Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST: a
Novel Image Dataset for Benchmarking Machine Learning Algorithms", section 2), without its trimming
and sharpening.
"""

from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fashion.core.errors import UserError

MAX_PIXELS = 50_000_000  # pixels; a picture that claims more is refused before it is unpacked
FORMATS = ("PNG", "JPEG")


def read_picture(file: BinaryIO, name: str) -> Image.Image:
    """Decode a PNG or JPEG file.

    Raises UserError, with `name` in it, if it is anything else, corrupted or too large.
    """
    try:
        picture = Image.open(file, formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        picture.load()
    except UnidentifiedImageError:
        raise UserError(f"{name}: not a picture in PNG or JPEG format") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: has more pixels than the {MAX_PIXELS:,} that are read") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{name}: the picture is corrupted ({error})") from None
    return picture


def preprocess_image(picture: Image.Image, shape: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Return a picture as uint8 pixels (height, width) of `shape`, and in words what was done.

    It is turned as its camera noted, laid on white where transparent, made grey, inverted if its
    edge is light, resized with antialiasing until it fits, and centred on a dark ground. A grey
    picture of this shape, with a dark edge, stays as it is.
    """
    steps = []
    if getattr(picture, "n_frames", 1) > 1:
        steps.append("first frame taken")
    turned = ImageOps.exif_transpose(picture)
    if turned.size != picture.size:
        steps.append("turned upright")
    if turned.has_transparency_data:
        cut_out = turned.convert("RGBA")
        white = Image.new("RGBA", cut_out.size, "white")
        turned = Image.alpha_composite(white, cut_out).convert("RGB")
        steps.append("laid on white")
    grey = _grey(turned)
    if turned.mode not in ("1", "L", "I", "F") and not turned.mode.startswith("I;16"):
        steps.append("colour to grey")
    if _has_light_edge(grey):
        grey = ImageOps.invert(grey)
        steps.append("light ground inverted")
    height, width = shape
    if grey.size != (width, height):
        steps.append(f"{grey.width}x{grey.height} fitted to {width}x{height}")
        scale = min(width / grey.width, height / grey.height)
        size = [max(1, round(scale * side)) for side in grey.size]
        small = grey.resize(size, Image.Resampling.LANCZOS)
        grey = Image.new("L", (width, height))
        grey.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return np.asarray(grey, np.uint8), steps


def _grey(picture: Image.Image) -> Image.Image:
    """Return 8 bits a pixel; 16 bits are scaled, of which Pillow would cut off those above 255."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        pixels = np.asarray(picture).astype(np.float64).clip(0, 65535) / 257
        return Image.fromarray(pixels.round().astype(np.uint8))
    return picture.convert("L")


def _has_light_edge(grey: Image.Image) -> bool:
    pixels = np.asarray(grey)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool(np.median(edge) > 127)
