"""Import TensorFlow and Keras quietly, set to give equal bits on every x86-64 machine.

Import them from this module: `from fashion.model.backend import keras, tf`. It takes about three
seconds.
"""

import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fashion.core.environment import set_environment

# TensorFlow prints these at every start on a machine without a GPU.
STARTUP_NOISE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|I0000 "
    r"|To enable the following instructions|E0000 .*cuInit"
)


@contextmanager
def filtered_stderr() -> Iterator[None]:
    """Hold back standard error, also of C++ code, and at the end print all but STARTUP_NOISE."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not STARTUP_NOISE.match(line):
                    print(line, file=sys.stderr)


set_environment()
# Keras imports these if it can, a quarter of the time, for wrappers and plots that nothing uses.
unused = {name: sys.modules.pop(name, None) for name in ("sklearn", "matplotlib")}
sys.modules.update(dict.fromkeys(unused))  # None lets an import fail
gc.disable()  # to search these modules for garbage would take a third of the time
with filtered_stderr():
    import keras
    import tensorflow as tf
gc.freeze()  # nor are they searched later
gc.enable()
for name in unused:
    del sys.modules[name]
sys.modules.update({name: module for name, module in unused.items() if module})


def gpus() -> list[tf.config.PhysicalDevice]:
    """Return the GPUs that TensorFlow may use; portable arithmetic has none."""
    with filtered_stderr():
        return tf.config.list_physical_devices("GPU")


def device() -> dict[str, str]:
    """Return the name of the GPU, as metrics have it; {} without one."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus()[:1]]
    return {"device": details[0]["device_name"]} if details else {}


def make_deterministic(seed: int, threads: int | None = None) -> None:
    """Seed Python, NumPy and Keras, and let TensorFlow use only operations that repeat to the bit.

    An operation is split among `threads` threads, by default as environment.py says. Results repeat
    only with the same number, since each thread rounds its own sum. Call this before anything is
    computed.
    """
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in gpus():
        tf.config.experimental.set_memory_growth(gpu, True)  # else one process takes all
    with filtered_stderr():
        tf.config.list_logical_devices()  # starts the GPU, which prints notes
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
