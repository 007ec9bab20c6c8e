import subprocess
import sys

import pytest

from fashion.core.errors import FileError, exit_on_user_error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileError("wrong, do that"), "command: wrong, do that\n"),
        (
            OSError(28, "No space left on device", "a.json"),
            "command: a.json: No space left on device. Make room",
        ),
        (PermissionError(13, "Permission denied"), "command: a file: Permission denied. "),
        (KeyboardInterrupt(), "command: interrupted. "),
    ],
)
def test_an_error_that_the_user_can_correct_is_one_message_and_status_1(error, message, capsys):
    with pytest.raises(SystemExit) as ended, exit_on_user_error("command"):
        raise error
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith(message) and len(printed.splitlines()) == 1


def test_another_error_keeps_its_traceback():
    with pytest.raises(FileNotFoundError), exit_on_user_error("command"):
        open("nowhere/at/all")  # noqa: PTH123, SIM115


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
