import gc
import os
import subprocess
import sys

import pytest

from fashion.model.backend import filtered_stderr, make_deterministic, tf

STARTUP_NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795350459.252989    9073 port.cc:153] oneDNN custom operations are on. \
You may see slightly different...
To enable the following instructions: AVX2 AVX512F FMA, in other operations, \
rebuild TensorFlow with the appropriate...
E0000 00:00:1795350462.789466    9073 cuda_platform.cc:52] failed call to cuInit: INTERNAL: \
CUDA error: Failed call to cuInit
"""
REAL = """\
W0000 00:00:1795350462.789466    9073 gpu_device.cc:2341] Cannot dlopen some GPU libraries.
E0000 00:00:1795350462.789466    9073 cuda_dnn.cc:456] Could not create cudnn handle: \
CUDNN_STATUS_NOT_INITIALIZED
ImportError: é cannot open shared object file, while I0000 or cuInit stand only in the middle
"""


def test_the_environment_is_set_before_tensorflow_is_imported():
    program = (  # prints the variable when TensorFlow's own library is loaded
        "import os, sys; sys.addaudithook(lambda event, arguments:"
        " event == 'import' and arguments[0] == 'tensorflow'"
        " and (print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True), os._exit(0)));"
        "import fashion.model.backend"
    )
    words = [sys.executable, "-c", program]
    assert subprocess.check_output(words, text=True).splitlines()[0] == "-1"


def test_startup_notes_are_dropped_and_other_lines_are_printed_even_after_an_error(capfd):
    first, rest = REAL.split("\n", 1)
    print("before", file=sys.stderr)
    with pytest.raises(ImportError), filtered_stderr():
        # as C++ code does, past sys.stderr
        os.write(2, f"{first}\n{STARTUP_NOISE}{rest}".encode())
        os.write(1, STARTUP_NOISE.encode())
        assert capfd.readouterr() == (STARTUP_NOISE, "before\n")
        os.write(2, b"without a line end")
        raise ImportError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == f"{REAL}without a line end\nafter\n"


def test_operations_get_the_threads(monkeypatch):
    asked = []
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", asked.append)
    make_deterministic(1, 2)
    assert asked == [2]


def test_garbage_is_searched_after_the_import_but_not_in_its_modules():
    assert gc.isenabled() and gc.get_freeze_count() > 100_000
    assert not any(one is vars(tf) for one in gc.get_objects())
