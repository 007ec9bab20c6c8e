"""A forked command prints and ends as a new process does."""

import os
import subprocess
import sys

import pytest

from tests.support.fork_server import run_forked, starts_alike

SHOWN = """
import atexit, os, sys, threading
atexit.register(print, "at the end")
print(__name__, sys.argv, sys.path[0], os.getcwd(), os.environ["WORD"], sys.stdout.isatty())
print({name.split(".")[0] for name in sys.modules} & {"tests", "tools", "fashion"}, flush=True)
"""
ENDS = ["pass", "sys.exit(3)", "sys.exit('a message')", "raise KeyError('an error')", "os.abort()"]
ENDS += ["threading.Timer(0.1, print, ['of a thread']).start()", "os.system('echo of a child')"]


@pytest.mark.parametrize("end", ENDS)
def test_a_forked_command_prints_and_ends_like_a_new_process(tmp_path, end):
    (tmp_path / "command.py").write_text(f"{SHOWN}{end}\n")
    words, env = ["command", "one", "a b"], os.environ | {"WORD": "ü"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    alone = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, env=env, **pipes)
    status, output = run_forked(words, tmp_path, env)
    assert status == alone.returncode
    # without the frames of tracebacks, which differ; and the order of the last lines may
    forked, own = (
        {line for line in text.splitlines() if line[0] != " " and not line.startswith("Process ")}
        for text in (output, alone.stdout)
    )
    assert forked == own


def test_variables_that_python_reads_at_its_start_need_a_new_process():
    assert starts_alike(os.environ | {"CI": "true"})
    assert not starts_alike(os.environ | {"PYTHONIOENCODING": "ascii"})
