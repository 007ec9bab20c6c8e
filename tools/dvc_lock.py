"""What dvc.lock says: what each stage ran on, and the MD5 of what it made.

DVC writes it in place, so that another process may find it empty or cut off, and whoever ends DVC
as it writes leaves it so.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fashion.core.errors import UserError
from fashion.core.strict_yaml import parse_yaml
from tools.git import git_bytes, yaml_at

DVC_LOCK = Path("dvc.lock")
PACKAGES = "requirements.txt"


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
    return output_hashes(stages).get(str(path))


def model_artifacts(dvc_yaml: dict[str, Any]) -> list[str]:
    """Return the paths of the artifacts of type model that the content of a dvc.yaml names."""
    artifacts = dvc_yaml.get("artifacts", {}).values()
    return [artifact["path"] for artifact in artifacts if artifact.get("type") == "model"]


def output_hashes(stages: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the MD5 of every output, by path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def pipeline_hashes(revision: str) -> dict[str, str]:
    """Return SHA-256 of what a revision's scores depend on besides the seed, by kind.

    The kinds are code, params and data, as dvc.lock has them for the stages that read the model and
    those before these, and the pinned packages.
    """
    stages = _stages_that_matter(revision)
    made = {entry for stage in stages for entry in _entries(stage, "outs")}
    varying = {entry for stage in stages if _reads_seed(stage) for entry in _entries(stage, "outs")}
    reads = {entry for stage in stages for entry in _entries(stage, "deps")}
    params = [stage.get("params", {}) for stage in stages]
    content = {
        "code": [[stage["cmd"] for stage in stages], sorted(reads - made)],
        "params": [
            {name: {key: value for key, value in values.items() if key != "seed"}}
            for section in params
            for name, values in section.items()
        ],
        "data": sorted(reads & made - varying),
        "packages": git_bytes("show", f"{revision}:{PACKAGES}").decode(),
    }
    return {
        kind: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        for kind, value in content.items()
    }


def _stages_that_matter(revision: str) -> list[dict]:
    """Return the stages of dvc.lock that read the model, and all that these depend on."""
    stages = [stage for _, stage in sorted(lock_at(revision).items())]
    models = {*model_artifacts(yaml_at(revision, "dvc.yaml"))}
    chosen = [one for one in stages if models & {path for path, _ in _entries(one, "deps")}]
    for stage in chosen:  # grows meanwhile
        needed = {path for path, _ in _entries(stage, "deps")}
        chosen += [
            one
            for one in stages
            if one not in chosen and needed & {path for path, _ in _entries(one, "outs")}
        ]
    return [stage for stage in stages if stage in chosen]


def _entries(stage: dict, kind: str) -> set[tuple[str, str]]:
    return {(entry["path"], entry["md5"]) for entry in stage.get(kind, [])}


def _reads_seed(stage: dict) -> bool:
    return any("seed" in values for values in stage.get("params", {}).values())
