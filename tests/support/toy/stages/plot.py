"""Draw six plots of one pixel each, whose grey follows from the predictions, a toy stage."""

import hashlib
import struct
import zlib
from pathlib import Path


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


for name in ("loss", "accuracy", "confusion_matrix", "samples", "predictions", "mistakes"):
    grey = hashlib.sha256(Path("plots/predictions.csv").read_bytes() + name.encode()).digest()[:1]
    parts = {
        b"IHDR": struct.pack(">2I5B", 1, 1, 8, 0, 0, 0, 0),
        b"IDAT": zlib.compress(b"\0" + grey),
        b"IEND": b"",
    }
    png = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts.items())
    Path(f"plots/{name}.png").write_bytes(png)
