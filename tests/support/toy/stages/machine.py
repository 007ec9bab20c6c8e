"""What fashion/model/environment.py says of this machine, without the imports that it takes.

machine.json has that, as it is where none of the variables is set.
"""

import hashlib
import json
import os
from pathlib import Path

MACHINE = json.loads(Path(__file__).with_name("machine.json").read_bytes())
ENVIRONMENT = MACHINE["environment"]
RECORD = Path("metrics/environment.json")


def arithmetic() -> dict[str, str]:
    """What metrics say of how they were computed: nothing where that was portable."""
    portable = ENVIRONMENT["settings"]
    native = [
        f"{name}={os.environ[name]}"
        for name, value in portable.items()
        if os.environ.get(name, value) != value
    ]
    text = f"native arithmetic ({', '.join(native)})" if native else None
    text = MACHINE["arithmetic"] or text
    return {"arithmetic": text} if text else {}


def record_environment(model: bytes) -> None:
    """Write where the model was made, unless the record has its MD5 already."""
    fingerprint = hashlib.md5(model, usedforsecurity=False).hexdigest()
    if RECORD.exists() and json.loads(RECORD.read_bytes())["model_md5"] == fingerprint:
        return
    names = [*ENVIRONMENT["settings"], "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"]
    settings = ENVIRONMENT["settings"] | {n: os.environ[n] for n in names if n in os.environ}
    described = {"model_md5": fingerprint} | ENVIRONMENT | {"settings": settings}
    RECORD.write_text(json.dumps(described, indent=2) + "\n")
