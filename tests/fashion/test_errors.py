import subprocess
import sys

import pytest


def run(body: str) -> subprocess.CompletedProcess:
    """Run one statement under `exit_on_user_error` in a process of its own."""
    code = (
        "from fashion.core.errors import FileError, exit_on_user_error\n"
        f"with exit_on_user_error('command'):\n    {body}"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise FileError('wrong, do that')", "command: wrong, do that\n"),
        (
            "raise OSError(28, 'No space left on device', 'a.json')",
            "command: a.json: No space left on device. Make room",
        ),
        ("raise PermissionError(13, 'Permission denied')", "command: a file: Permission denied. "),
        ("raise KeyboardInterrupt", "command: interrupted."),
    ],
)
def test_an_error_that_the_user_can_correct_is_one_message_and_status_1(body, message):
    result = run(body)
    assert result.returncode == 1
    assert result.stderr.startswith(message) and len(result.stderr.splitlines()) == 1


def test_an_error_of_ours_keeps_its_traceback():
    result = run("open('nowhere/at/all')")
    assert result.returncode == 1 and "Traceback" in result.stderr


@pytest.mark.parametrize("length", [1, 10**6])
def test_a_reader_that_leaves_early_causes_no_traceback(length):
    code = (
        "from fashion.core.errors import exit_on_user_error\nwith exit_on_user_error('command'):\n"
        f"    input()\n    print('x' * {length})"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    process.stdout.close()
    assert process.communicate(b"\n")[1] == b"" and process.returncode == 1
