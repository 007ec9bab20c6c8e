"""What the bits of a result depend on beside code, params and data.

PORTABLE makes these the same on every x86-64 machine; `record_environment` writes the rest down.
"""

import json
import os
import platform
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from fashion.core.files import md5, write_json

PACKAGES = ["tensorflow", "keras", "numpy", "h5py", "scipy", "scikit-learn", "pandas"]
PACKAGES += ["matplotlib", "pillow", "dvc"]

# oneDNN on every CPU (TensorFlow's default is the newest only); its kernels for AVX2, which every
# x86-64 CPU since 2013 has (oneDNN's default are the widest, and each width rounds differently);
# and one thread an operation, since oneDNN splits the rows of a product among threads, and these
# kernels round the last rows of a part differently.
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
PORTABLE = {
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "TF_NUM_INTRAOP_THREADS": "1",
}
VARIABLES = [*PORTABLE, "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"]  # that TensorFlow heeds


def set_portable_arithmetic(variables: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables of PORTABLE that the user has not set; TensorFlow's import reads them.

    Those of oneDNN are set on x86-64 alone, since they have no or another meaning elsewhere.
    """
    for name, value in PORTABLE.items():
        if is_x86_64() or "ONEDNN" not in name:
            variables.setdefault(name, value)


def native_arithmetic(variables: Mapping[str, str] = os.environ) -> str | None:
    """Say why results computed with these environment variables are not portable, or return None.

    "native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)" if the user has chosen speed; on another kind
    of machine "native arithmetic (aarch64)".
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
    """Tell whether the user gives up portable bytes on a machine that could make them."""
    return is_x86_64() and native_arithmetic() is not None


def arithmetic() -> dict[str, str]:
    """Return what metrics say about their arithmetic: nothing if it was portable."""
    native = native_arithmetic()
    return {"arithmetic": native} if native else {}


def is_x86_64() -> bool:
    """Tell whether this is a 64-bit Intel or AMD machine."""
    return platform.machine().lower() in ("x86_64", "amd64")


def describe_environment(variables: Mapping[str, str] = os.environ) -> dict:
    """Return the versions, the machine and the settings that this process computes with."""
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
    """Write the environment that made the file `model`, with the model's MD5.

    A record with the same MD5 stays, so it says where a model was first made, and other machines
    that make the same bytes leave it unchanged.
    """
    fingerprint = md5(model)
    try:
        recorded = json.loads(path.read_bytes())["model_md5"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or not one of ours
        recorded = None
    if recorded != fingerprint:
        write_json(path, {"model_md5": fingerprint} | describe_environment())


def cpu_model() -> str:
    """Return the processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():  # Linux, where platform.processor() is mostly empty
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
