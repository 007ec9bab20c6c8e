"""Exit with a message if this Python or this machine can't run the project: for the Makefile."""

import platform
import sys

PYTHONS = (3, 11), (3, 14)  # the first supported version, and the first that is not
MACHINES = [("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")]

if not PYTHONS[0] <= sys.version_info < PYTHONS[1]:
    sys.exit(
        f"This needs Python 3.11, 3.12 or 3.13, but {sys.executable} is"
        f" {platform.python_version()}. Choose another: make PYTHON=python3.12"
    )
machine, is_linux = (platform.system(), platform.machine()), platform.system() == "Linux"
if machine not in MACHINES or (is_linux and platform.libc_ver()[0] != "glibc"):
    sys.exit(
        f"This does not run on {' on '.join(machine)} with this C library. Use Linux with glibc,"
        " also in WSL, or macOS on Apple silicon"
    )
