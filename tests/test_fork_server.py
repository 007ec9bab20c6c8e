"""Commands that tests run are forked, and come to the same as processes of their own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.fork_server import fork_server, starts_alike

SHOWN = """
import atexit, builtins, functools, os, sys, threading
print = functools.partial(builtins.print, flush=True)  # so that all comes in its order
atexit.register(print, "at the end")
print(__name__, sys.argv, sys.path[0], os.getcwd(), os.environ["WORD"], sys.stdout.isatty())
"""
ENDS = ["pass", "sys.exit(3)", "sys.exit('a message')", "raise KeyError('an error')", "os.abort()"]
ENDS += ["threading.Timer(0.1, print, ['of a thread']).start()", "os.system('echo of a child')"]


@pytest.mark.parametrize("end", ENDS)
def test_a_forked_command_prints_and_ends_as_one_of_its_own(tmp_path, end):
    (tmp_path / "command.py").write_text(f"{SHOWN}{end}\n")
    words, env = ["command", "one", "a b"], os.environ | {"WORD": "ü"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    alone = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, env=env, **pipes)
    status, output = fork_server().run(words, tmp_path, env)
    assert status == alone.returncode
    # of a traceback, the frames differ
    forked, own = (
        [line for line in text.splitlines() if line[0] != " "] for text in (output, alone.stdout)
    )
    assert forked == own


def test_commands_of_several_threads_run_side_by_side(tmp_path):
    (tmp_path / "command.py").write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "mine, other = sys.argv[1:]\n"
        "Path(mine).touch()\n"
        "while not Path(other).exists():\n"
        "    time.sleep(0.01)\n"
        "sys.exit(int(mine))\n"
    )

    def run(*arguments: str) -> tuple[int, str]:
        return fork_server().run(["command", *arguments], tmp_path, dict(os.environ))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, "34", "43")) == [(3, ""), (4, "")]


def test_what_python_reads_as_it_starts_is_left_to_a_process_of_its_own():
    assert starts_alike(os.environ | {"CI": "true"})
    assert not starts_alike(os.environ | {"PYTHONIOENCODING": "ascii"})
