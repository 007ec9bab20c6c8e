"""What dvc.lock says: what each stage ran on, and the MD5 of what it made.

DVC writes it in place, so that another process may find it empty or cut off, and whoever ends DVC
as it writes leaves it so.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fashion.errors import UserError
from fashion.strict_yaml import parse_yaml
from tools.git import git_bytes

DVC_LOCK = Path("dvc.lock")


class _Dependency(BaseModel):
    path: str


class _Output(BaseModel):
    path: str
    md5: str


class _Stage(BaseModel):
    cmd: str | list[str]
    deps: list[_Dependency] = []
    params: dict[str, dict] = {}
    outs: list[_Output] = []


class _Lock(BaseModel):
    stages: dict[str, _Stage]


def read_lock(path: Path = DVC_LOCK) -> dict[str, dict[str, Any]]:
    """Return the stages of the dvc.lock at `path`, by name. Raises UserError where it is none."""
    try:
        return parse_lock(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. `git checkout {path}` restores it") from None
    except UserError as error:
        raise UserError(
            f"{error}. Either another DVC process is about to write it: run this again. Or one was"
            f" ended as it did: `git checkout {path}` restores the committed one"
        ) from None


def lock_at(revision: str) -> dict[str, dict[str, Any]]:
    """Return the stages of a revision's dvc.lock. Raises UserError where it is none."""
    return parse_lock(git_bytes("show", f"{revision}:{DVC_LOCK}"), f"{DVC_LOCK} of {revision}")


def parse_lock(text: bytes, source: str) -> dict[str, dict[str, Any]]:
    """Return the stages in the text of a dvc.lock. Raises UserError naming `source`."""
    lock = parse_yaml(text, source)
    try:
        _Lock.model_validate(lock)
    except ValidationError:
        raise UserError(f"{source}: not whole") from None
    return lock["stages"]


def md5_of(stages: dict[str, dict[str, Any]], path: Path | str) -> str | None:
    """Return the MD5 of an output, or None where no stage has made it."""
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return next((out["md5"] for out in outs if out["path"] == str(path)), None)
