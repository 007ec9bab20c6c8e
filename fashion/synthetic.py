"""Drawn garments: a stand-in in the form of Fashion-MNIST.

It is for tests and for machines that can't reach the real data. Silhouettes of the ten classes with
random shape, size, place, shade and texture, 28x28, light on dark. They look like garments to a
network, not to a buyer: what it scores on them says nothing about Fashion-MNIST.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIZE = 28  # pixels of a side
FINE = 4 * SIZE  # pixels of a side while drawing; scaled down for smooth edges

# corners, x to the right and y down, the picture reaching from 0 to 1
Polygon = list[tuple[float, float]]
Uniform = Callable[[float, float], float]


def draw_garments(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` garments, all classes equally often, in random order.

    Returns images (count, 28, 28) and labels (count,), both uint8. Equal arguments give equal
    pixels.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % len(OUTLINES)).astype(np.uint8)
    images = np.stack([draw_garment(label, random) for label in labels])
    return images, labels


def draw_garment(label: int, random: np.random.Generator) -> np.ndarray:
    """Draw one garment of the class `label`, 0 to 9, as (28, 28) uint8."""
    outline, turn = OUTLINES[label](random.uniform), random.normal(0, 0.05)
    shift, stretch = random.uniform(-0.05, 0.05, 2), random.uniform(0.85, 1.05, 2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    picture = Image.new("L", (FINE, FINE))
    pencil = ImageDraw.Draw(picture)
    for polygon in outline:
        corners = (((np.array(polygon) - 0.5) * stretch) @ rotation + 0.5 + shift) * FINE
        pencil.polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    silhouette = np.asarray(picture.reduce(FINE // SIZE), np.float64)
    return (silhouette * _texture(random)).clip(0, 255).astype(np.uint8)


def _texture(random: np.random.Generator) -> np.ndarray:
    """Brightness by pixel: a shade, stripes across or along on some, and a grain."""
    shade = random.uniform(0.35, 1)
    stripes = random.uniform(0, 0.5) * (random.random() < 0.3)
    wave = 1 - stripes * (np.sin(np.arange(SIZE) * random.uniform(0.6, 2.5)) > 0)
    across = wave[:, None] if random.random() < 0.7 else wave[None, :]
    return shade * across * random.normal(1, 0.12, (SIZE, SIZE))


def _mirrored(half: Polygon) -> Polygon:
    """A closed outline from its left half, from top to bottom."""
    return half + [(1 - x, y) for x, y in reversed(half)]


def _upper_garment(u: Uniform, hem: float, waist: float, sleeve: float, cuff: float) -> Polygon:
    """Draw a body with sleeves.

    `hem` and `sleeve` are how far down they reach, `waist` and `cuff` half-widths.
    """
    neck, shoulder = u(0.06, 0.13), u(0.2, 0.27)
    return _mirrored(
        [(0.5 - neck, 0.1), (0.5 - shoulder, 0.15), (0.38 - shoulder, sleeve),
         (0.38 - shoulder + cuff, sleeve + 0.04), (0.48 - waist, 0.36), (0.5 - waist, hem)]
    )  # fmt: skip


def _t_shirt(u: Uniform) -> list[Polygon]:
    return [_upper_garment(u, u(0.78, 0.9), u(0.17, 0.23), u(0.28, 0.42), u(0.08, 0.13))]


def _trouser(u: Uniform) -> list[Polygon]:
    waist, leg, crotch = u(0.13, 0.18), u(0.09, 0.12), u(0.3, 0.42)
    return [
        _mirrored(
            [
                (0.5 - waist, 0.06),
                (0.5 - waist - 0.03, 0.94),
                (0.5 - waist - 0.03 + leg, 0.94),
                (0.495, crotch),
            ]
        )
    ]


def _pullover(u: Uniform) -> list[Polygon]:
    return [_upper_garment(u, u(0.76, 0.88), u(0.18, 0.24), u(0.7, 0.86), u(0.09, 0.13))]


def _dress(u: Uniform) -> list[Polygon]:
    strap, chest, waist, hem = u(0.08, 0.13), u(0.1, 0.16), u(0.07, 0.12), u(0.13, 0.3)
    return [
        _mirrored(
            [(0.5 - strap, 0.05), (0.5 - chest, 0.22), (0.5 - waist, 0.42), (0.5 - hem, 0.95)]
        )
    ]


def _coat(u: Uniform) -> list[Polygon]:
    left, gap = (
        _upper_garment(u, u(0.86, 0.96), u(0.2, 0.26), u(0.68, 0.86), u(0.09, 0.13)),
        u(0.008, 0.02),
    )
    half = left[: len(left) // 2]  # open in front: two halves with a gap between
    half += [(0.5 - gap, half[-1][1]), (0.5 - gap, 0.16)]
    return [half, [(1 - x, y) for x, y in half]]


def _sandal(u: Uniform) -> list[Polygon]:
    sole, heel = u(0.68, 0.76), u(0.0, 0.18)
    straps = [x + u(-0.04, 0.04) for x in (0.25, 0.5, 0.75)]
    return [
        [
            (0.06, sole),
            (0.94, sole - heel),
            (0.94, sole + 0.06),
            (0.88, sole + 0.06 - heel / 2),
            (0.06, sole + 0.06),
        ],
        *(
            [
                (x, sole),
                (x + u(0.06, 0.12), u(0.4, 0.52)),
                (x + 0.14, u(0.42, 0.54)),
                (x + 0.06, sole),
            ]
            for x in straps
        ),
    ]


def _shirt(u: Uniform) -> list[Polygon]:
    body = _upper_garment(u, u(0.8, 0.92), u(0.16, 0.22), u(0.4, 0.82), u(0.07, 0.11))
    collar = u(0.04, 0.08)
    return [
        body,
        [
            (0.5 - 0.1, 0.04),
            (0.5, 0.1 + collar),
            (0.5 + 0.1, 0.04),
            (0.5 + 0.13, 0.14),
            (0.5 - 0.13, 0.14),
        ],
    ]


def _sneaker(u: Uniform) -> list[Polygon]:
    top, toe = u(0.4, 0.5), u(0.58, 0.64)
    return [
        [
            (0.05, toe),
            (0.35, toe - 0.08),
            (0.6, top),
            (0.92, top - 0.03),
            (0.95, 0.74),
            (0.05, 0.74),
        ]
    ]


def _bag(u: Uniform) -> list[Polygon]:
    top, side, handle, width = u(0.35, 0.48), u(0.08, 0.16), u(0.1, 0.26), u(0.1, 0.2)
    outer = [
        (0.5 - width - 0.05, top),
        (0.5 - width, handle),
        (0.5 + width, handle),
        (0.5 + width + 0.05, top),
    ]
    inner = [
        (0.5 + width, top),
        (0.46 + width, handle + 0.06),
        (0.54 - width, handle + 0.06),
        (0.5 - width, top),
    ]
    return [
        outer + inner,
        [(side, top), (1 - side, top), (1 - side + 0.04, 0.88), (side - 0.04, 0.88)],
    ]


def _ankle_boot(u: Uniform) -> list[Polygon]:
    shaft, toe, heel = u(0.1, 0.24), u(0.6, 0.7), u(0.0, 0.1)
    return [
        [(0.06, toe), (0.45, toe - 0.14), (0.52, shaft), (0.9, shaft - 0.03), (0.93, 0.8 - heel),
         (0.93, 0.86), (0.76, 0.86), (0.72, 0.84 - heel), (0.06, 0.84)]
    ]  # fmt: skip


OUTLINES = [
    _t_shirt,
    _trouser,
    _pullover,
    _dress,
    _coat,
    _sandal,
    _shirt,
    _sneaker,
    _bag,
    _ankle_boot,
]
