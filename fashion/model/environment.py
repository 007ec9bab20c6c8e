"""What the bits of a result depend on beside code, params and data.

And how they are made the same on every x86-64 machine.
"""

import json
import os
import platform
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from fashion.core.files import md5, write_json

PACKAGES = [
    "tensorflow",
    "keras",
    "numpy",
    "h5py",
    "scipy",
    "scikit-learn",
    "pandas",
    "matplotlib",
    "pillow",
    "dvc",
]

# oneDNN on every CPU (left alone, TensorFlow uses it only on the newest); its kernels for AVX2,
# which every x86-64 CPU since 2013 has (left alone, oneDNN takes the widest that there are, and
# each width rounds otherwise); and one thread an operation, since oneDNN shares the rows of a
# product out among threads, and those kernels round the last rows of a share otherwise.
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
PORTABLE = {
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "TF_NUM_INTRAOP_THREADS": "1",
}
VARIABLES = [*PORTABLE, "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"]  # that TensorFlow heeds


def set_portable_arithmetic(variables: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables of PORTABLE where the user has not.

    TensorFlow reads them as it is imported. Those of oneDNN are for x86-64 alone: elsewhere they
    mean nothing, or something else.
    """
    for name, value in PORTABLE.items():
        if is_x86_64() or "ONEDNN" not in name:
            variables.setdefault(name, value)


def native_arithmetic(variables: Mapping[str, str] = os.environ) -> str | None:
    """Tell results computed with these environment variables from portable ones.

    Return None where they are portable, "native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)" where the
    user has chosen speed, or on another kind of machine "native arithmetic (aarch64)". It stands in
    the metrics, since it goes where they go: into DVC's cache, too.
    """
    reasons = [
        f"{name}={variables[name]}"
        for name, value in PORTABLE.items()
        if variables.get(name, value) != value
    ]
    if not is_x86_64():
        reasons = [platform.machine()]
    return f"native arithmetic ({', '.join(reasons)})" if reasons else None


def is_native_by_choice() -> bool:
    """Whether the user gives up portable bytes on a machine that could make them."""
    return is_x86_64() and native_arithmetic() is not None


def arithmetic() -> dict[str, str]:
    """What metrics say of how they were computed: nothing where that was portable."""
    native = native_arithmetic()
    return {"arithmetic": native} if native else {}


def is_x86_64() -> bool:
    """Whether this is a 64-bit Intel or AMD machine."""
    return platform.machine().lower() in ("x86_64", "amd64")


def describe_environment(variables: Mapping[str, str] = os.environ) -> dict:
    """Return the versions, the machine and the settings that this process computes with.

    Versions of Python and packages, operating system, CPU model, instruction set, and settings of
    TensorFlow.
    """
    settings = dict(variables)
    set_portable_arithmetic(settings)
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "instruction_set": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
        "settings": {name: settings[name] for name in VARIABLES if name in settings},
    }


def record_environment(path: Path, model: Path) -> None:
    """Write where the bytes of the file `model` were made, with their MD5.

    Where they are those of the record, it is left. So the record says where a model was first made,
    and does not change when another machine makes the same bytes again.
    """
    fingerprint = md5(model)
    try:
        recorded = json.loads(path.read_bytes())["model_md5"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none yet, or not one of ours
        recorded = None
    if recorded != fingerprint:
        write_json(path, {"model_md5": fingerprint} | describe_environment())


def cpu_model() -> str:
    """The processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():  # Linux, where platform.processor() is mostly empty
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
