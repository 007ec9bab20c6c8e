"""What computes a result: the pinned packages, with portable arithmetic or, by choice, native.

Portable arithmetic gives the same bytes on every x86-64 machine since 2013: on the CPU, with the
instructions that all of them have, one thread an operation. `ARITHMETIC=native` takes all that the
machine has: instructions, cores and GPU. Whatever else the user's environment says has no effect.
"""

import os
import platform
from collections.abc import Mapping, MutableMapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fashion.core.errors import UserError

ARITHMETIC = "ARITHMETIC"  # the variable of the user's choice: "portable", the default, or "native"
THREADS = "ARITHMETIC_THREADS"  # of a process; set by tools that run several side by side
THREAD_COUNTS = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"]
PINS = sorted(Path(__file__).parents[1].glob("*/requirements.txt"))

# What the names of variables begin with that numerical libraries read.
FOREIGN = ("TF_", "TF2_", "XLA_", "KERAS_", "ONEDNN_", "DNNL_", "OMP_", "KMP_", "MKL_", "CUDA_")
FOREIGN += ("NVIDIA_", "OPENBLAS_", "NPY_", "HDF5_", "MPLBACKEND", "MATPLOTLIBRC")

# Keras reads no settings from the home folder, and TensorFlow prints warnings and errors alone.
ALWAYS = {"KERAS_HOME": os.devnull, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "1"}
# oneDNN on every CPU (TensorFlow's default is the newest only); its kernels for AVX2, which every
# x86-64 CPU since 2013 has (oneDNN's default are the widest, and each width rounds differently);
# and one thread an operation, since oneDNN splits the rows of a product among threads, and these
# kernels round the last rows of a part differently.
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
        # oneDNN's variables have no or another meaning elsewhere
        variables.update(PORTABLE | (PORTABLE_X86_64 if is_x86_64() else {}))


def is_native(variables: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the user has chosen native arithmetic."""
    return variables.get(ARITHMETIC) == "native"


def environment() -> dict[str, str]:
    """Return what metrics say about what computed them: nothing if it was portable, and as pinned.

    Else {"environment": "native arithmetic; keras 3.12.0, not 3.15.1"}, for example. On a machine
    that is not x86-64, "arithmetic of arm64". Raises UserError if the choice is unknown, or the CPU
    can't run TensorFlow.
    """
    if (choice := os.environ.get(ARITHMETIC) or "portable") not in ("portable", "native"):
        raise UserError(f"the environment variable {ARITHMETIC} is {choice}: portable or native?")
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
    """Tell whether this process computes what DVC's run cache has: it knows no environment.

    A machine that is not x86-64 has no other choice, and takes over what is there.
    """
    return not (is_x86_64() and environment())


def pinned_versions() -> dict[str, str]:
    """Return the versions in the requirements.txt of each folder beside this one, by package."""
    lines = [line for path in PINS for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def is_x86_64() -> bool:
    """Tell whether this is a 64-bit Intel or AMD machine."""
    return platform.machine().lower() in ("x86_64", "amd64")


def check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Raise UserError if Linux knows that the CPU lacks the instructions that TensorFlow needs."""
    if is_x86_64() and cpuinfo.exists() and " avx2 " not in cpuinfo.read_text():
        raise UserError(
            "this CPU has no AVX2 instructions, without which TensorFlow and portable arithmetic"
            " do not work. Use a machine built after 2013"
        )
