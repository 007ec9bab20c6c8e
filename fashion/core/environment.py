"""Set and describe the environment of a result: the pinned packages and the arithmetic.

Portable arithmetic, the default, gives the same bytes on every x86-64 machine since 2013: it uses
the CPU, instructions that all of them have, and one thread per operation. `ARITHMETIC=native` uses
all instructions, cores and GPUs of the machine. Other variables of the user have no effect.
"""

import os
import platform
from collections.abc import Mapping, MutableMapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fashion.core.errors import UserError

ARITHMETIC = "ARITHMETIC"  # a variable that the user sets to "portable", the default, or "native"
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


def set_environment(variables: MutableMapping[str, str] = os.environ) -> None:
    """Replace the variables that numerical libraries read. Call this before they are imported."""
    threads = variables.get(THREADS)
    for name in [name for name in variables if name.startswith(FOREIGN)]:
        del variables[name]
    variables.update(ALWAYS)
    if threads:
        variables.update(dict.fromkeys(THREAD_COUNTS, threads))
    if not is_native(variables):
        # on other machines, oneDNN's variables have another meaning or none
        variables.update(PORTABLE | (PORTABLE_X86_64 if is_x86_64() else {}))


def is_native(variables: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the user has chosen native arithmetic."""
    return variables.get(ARITHMETIC) == "native"


def environment() -> dict[str, str]:
    """Return how this environment differs from the pinned, portable one; {} if it does not.

    A difference is {"environment": "native arithmetic; keras 3.12.0, not 3.15.1"}, for example, or
    "arithmetic of arm64" on a machine that is not x86-64. Raises UserError if ARITHMETIC is unknown
    or the CPU can't run TensorFlow.
    """
    if (choice := os.environ.get(ARITHMETIC) or "portable") not in ("portable", "native"):
        raise UserError(f"the variable {ARITHMETIC} is {choice}. Set it to portable or native")
    check_cpu()
    found = ["native arithmetic"] if is_native() else []
    found += [] if is_x86_64() else [f"arithmetic of {platform.machine()}"]
    found += [
        f"{name} {installed_version(name)}, not {pinned}"
        for name, pinned in pinned_versions().items()
        if installed_version(name) != pinned
    ]
    return {"environment": "; ".join(found)} if found else {}


def is_pinned() -> bool:
    """Tell whether DVC's run cache, which does not know the environment, may be used.

    The cache has results of the pinned environment. A machine that is not x86-64 can't compute
    these, so it uses those of other machines.
    """
    return not (is_x86_64() and environment())


def pinned_versions() -> dict[str, str]:
    """Return the versions that the requirements.txt files in fashion/ pin, by package."""
    lines = [line for path in PINS for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@cache
def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def is_x86_64() -> bool:
    """Tell whether this is a 64-bit Intel or AMD machine."""
    return platform.machine().lower() in ("x86_64", "amd64")


def check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Raise UserError if Linux says that the CPU lacks instructions that TensorFlow needs."""
    if is_x86_64() and cpuinfo.exists() and " avx2 " not in cpuinfo.read_text():
        raise UserError(
            "this CPU has no AVX2 instructions, which TensorFlow and portable arithmetic need."
            " Use a machine built after 2013"
        )
