"""The rules that a change is judged by, which are its baseline's: gate, noise and reference."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from statistics import mean, stdev

from flatten_dict import flatten

from fashion.errors import UserError
from fashion.strict_yaml import check_config, parse_yaml
from tools.gate.config import GATE, Gate
from tools.gate.noise import NOISE, REFERENCE, Noise, parse_noise
from tools.git import git_bytes

FILES = (GATE, NOISE, REFERENCE)
MIN_RUNS = 5  # fewer say too little of how much metrics vary


@dataclass(frozen=True)
class Rules:
    gate: Gate
    noise: Noise
    reference: Noise | None  # where one is committed


def read_files(revision: str | None) -> dict[str, bytes]:
    """Return the files of the rules that there are at a revision, or in the workspace."""
    found = {}
    for path in FILES:
        with suppress(UserError, FileNotFoundError):
            found[str(path)] = (
                git_bytes("show", f"{revision}:{path}") if revision else path.read_bytes()
            )
    return found


def parse_rules(files: dict[str, bytes], where: str) -> Rules:
    """Check the files of the rules. Raises UserError naming `where` they are, and what is wrong."""
    for path in (GATE, NOISE):
        if str(path) not in files:
            raise UserError(f"there is no {path} in {where}")
    gate = parse_gate(files[str(GATE)], f"{GATE} of {where}")
    noises = [
        parse_noise(files[str(path)], f"{path} of {where}") if str(path) in files else None
        for path in (NOISE, REFERENCE)
    ]
    for path, noise in zip((NOISE, REFERENCE), noises, strict=True):
        if noise:
            _require_usable(noise, gate, f"{path} of {where}")
    return Rules(gate, *noises)


def parse_gate(content: bytes, source: str) -> Gate:
    """Check the content of a gate.yaml. Raises UserError naming `source` and the key."""
    return check_config(parse_yaml(content, source), source, Gate)


def _require_usable(noise: Noise, gate: Gate, source: str) -> None:
    if len(noise.seeds) < MIN_RUNS:
        raise UserError(
            f"{source} is of {len(noise.seeds)} runs; {MIN_RUNS} are needed. `make noise` measures"
        )
    for name in gate.metrics:
        if name not in noise.metrics:
            raise UserError(f"{source} does not have {name}. `make noise` measures it")
        if not noise.table[name].std() > 0:
            raise UserError(f"{source}: {name} is the same for all seeds, so nothing can be judged")


def rule_changes(before: dict[str, bytes], now: dict[str, bytes]) -> list[str]:
    """Say in which keys the files of the rules differ, in words."""
    changes = []
    for path in map(str, FILES):
        old, new = before.get(path), now.get(path)
        if old == new:
            continue
        if old is None or new is None:
            changes.append(f"{path} is {'new' if old is None else 'missing now'}")
            continue
        try:
            old, new = (_flat(path, content) for content in (old, new))
        except (UserError, ValueError):
            changes.append(f"{path} can't be read")
            continue
        keys = [key for key in old | new if old.get(key) != new.get(key)]
        changes += [
            f"{path}: {key}: {_short(old.get(key))} -> {_short(new.get(key))}" for key in keys
        ] or [f"{path} is written otherwise, and says the same"]
    return changes


def _flat(path: str, content: bytes) -> dict:
    values = json.loads(content) if path.endswith(".json") else parse_yaml(content, path)
    return flatten(values, reducer="dot")


def _short(value: object) -> str:
    if isinstance(value, list) and len(value) >= MIN_RUNS:
        try:
            return f"{mean(value):.4f} ± {stdev(value):.4f} of {len(value)}"
        except TypeError:  # no numbers
            return f"{len(value)} values"
    return str(value)


def fingerprint(files: dict[str, bytes]) -> str:
    """Return twelve hexadecimal digits that stand for the rules in these files."""
    content = json.dumps({path: hashlib.sha256(files[path]).hexdigest() for path in sorted(files)})
    return hashlib.sha256(content.encode()).hexdigest()[:12]
