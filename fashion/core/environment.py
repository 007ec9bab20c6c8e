"""Set and check the environment of a result: the arithmetic and the pinned packages.

Portable arithmetic gives the same bytes on every x86-64 machine since 2013: it uses the CPU,
instructions that all of them have, and one thread per operation. Native arithmetic uses all
instructions, cores and GPUs of the machine. The user's variables have no effect.
"""

import os
import platform
from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fashion.core.errors import UserError

ARITHMETIC = "ARITHMETIC"  # set by `set_environment`, for what this process imports later
THREADS = "ARITHMETIC_THREADS"  # per process; set by tools that run several at a time
THREAD_COUNTS = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"]
PINS = sorted(Path(__file__).parents[1].glob("*/requirements.txt"))

# The beginnings of the names of all variables that numerical libraries read.
FOREIGN = ("TF_", "TF2_", "XLA_", "KERAS_", "ONEDNN_", "DNNL_", "OMP_", "KMP_", "MKL_", "CUDA_")
FOREIGN += ("NVIDIA_", "OPENBLAS_", "NPY_", "HDF5_", "MPLBACKEND", "MATPLOTLIBRC")

# Keras reads no settings from the home folder, and TensorFlow prints only warnings and errors.
ALWAYS = {"KERAS_HOME": os.devnull, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "1"}
# TensorFlow uses oneDNN on the newest CPUs only: turn it on everywhere. oneDNN takes its widest
# kernels, and each width rounds differently: take those for AVX2, which every x86-64 CPU since 2013
# has. oneDNN splits the rows of a product among threads, and these kernels round the last rows of a
# part differently: use one thread per operation.
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
PORTABLE = {"CUDA_VISIBLE_DEVICES": "-1", "TF_NUM_INTRAOP_THREADS": "1"}
PORTABLE_X86_64 = {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def set_environment(
    arithmetic: str | None = None, variables: MutableMapping[str, str] = os.environ
) -> None:
    """Replace the variables that numerical libraries read. Call this before they are imported.

    `arithmetic` is "portable" or "native", by default what an earlier call has set, or portable.
    """
    variables[ARITHMETIC] = arithmetic or variables.get(ARITHMETIC) or "portable"
    threads = variables.get(THREADS)
    for name in [name for name in variables if name.startswith(FOREIGN)]:
        del variables[name]
    variables.update(ALWAYS)
    if threads:
        variables.update(dict.fromkeys(THREAD_COUNTS, threads))
    if variables[ARITHMETIC] != "native":
        # on other machines, oneDNN's variables have another meaning or none
        variables.update(PORTABLE | (PORTABLE_X86_64 if is_x86_64() else {}))


def environment(arithmetic: str) -> dict[str, str]:
    """Return what metrics say of a result that is not portable; {} of a portable one.

    It is {"environment": "native arithmetic"}, for example, or "arithmetic of arm64" on a machine
    that is not x86-64.
    """
    found = ["native arithmetic"] if arithmetic == "native" else []
    found += [] if is_x86_64() else [f"arithmetic of {platform.machine()}"]
    return {"environment": "; ".join(found)} if found else {}


def check_environment(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Raise UserError if a package has another version than the pinned one.

    Also raise it if the CPU can't run TensorFlow, as Linux says in `cpuinfo`.
    """
    if is_x86_64() and cpuinfo.exists() and " avx2 " not in cpuinfo.read_text():
        raise UserError(
            "this CPU has no AVX2 instructions, which TensorFlow and portable arithmetic need."
            " Use a machine built after 2013"
        )
    other = [
        f"{name} {installed}, not {pinned}" if installed else f"no {name} {pinned}"
        for name, pinned in pinned_versions().items()
        if (installed := installed_version(name)) != pinned
    ]
    if other:
        raise UserError(
            f"the environment has {'; '.join(other)}. `pip install -r requirements.txt` installs"
            " what is pinned. To use another version, pin it in fashion/*/requirements.txt"
        )


def pinned_versions() -> dict[str, str]:
    """Return the versions that the requirements.txt files in fashion/ pin, by package."""
    lines = [line for path in PINS for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def is_x86_64() -> bool:
    """Tell whether this is a 64-bit Intel or AMD machine."""
    return platform.machine().lower() in ("x86_64", "amd64")
