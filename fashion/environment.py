"""What the bits of a result depend on beside code, params and data."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

PACKAGES = ["tensorflow", "keras", "numpy", "h5py", "scipy", "scikit-learn", "pandas", "matplotlib", "pillow", "dvc"]
VARIABLES = [  # those that change the threads or the instructions which TensorFlow computes with
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
]


def environment() -> dict:
    """Versions of Python and packages, operating system, CPU model, instruction set, and settings of threads."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "instruction_set": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
        "settings": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def cpu_model() -> str:
    """The processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():  # Linux, where platform.processor() is mostly empty
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
