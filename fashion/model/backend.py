"""TensorFlow and Keras, started without their notes and set to repeat themselves to the bit.

They do so on every x86-64 machine. Whatever needs them imports them from here: `from
fashion.model.backend import keras, tf`. It takes about three seconds.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fashion.model.environment import set_portable_arithmetic

# What every start on a healthy machine says: information, and that there is no GPU. Warnings and
# other errors are shown.
STARTUP_NOISE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|I0000 "
    r"|To enable the following instructions|E0000 .*cuInit"
)


@contextmanager
def filtered_stderr() -> Iterator[None]:
    """Hold back what is written to standard error, then pass on all lines but STARTUP_NOISE.

    What C++ code writes is held back, too.
    """
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


set_portable_arithmetic()
# no information from TensorFlow's own log either
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
with filtered_stderr():
    import keras
    import tensorflow as tf


def make_deterministic(seed: int, threads: int | None = None) -> None:
    """Seed Python, NumPy and Keras, and let TensorFlow use only operations that repeat to the bit.

    `threads` is how many an operation may be split among, by default what environment.py says; set
    it before anything is computed. Sums are rounded by thread, so results repeat only at an equal
    number.
    """
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    with filtered_stderr():
        tf.config.list_logical_devices()  # looks for a GPU now, and says so now
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
