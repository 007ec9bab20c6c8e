"""List what a change edits of the gate itself, for its reviewer."""

from pathlib import Path
from typing import Any

import pandas as pd
from flatten_dict import flatten

from fashion.core.errors import UserError
from tools.dvc import lock_at, output_hashes
from tools.gate.config import GATE
from tools.gate.judge import Judgement
from tools.gate.noise import NOISE, noise_at
from tools.gate.score import TOLERANCE
from tools.git import DELETED, changed_paths, file_at, yaml_at

# what decides how a change is judged
FOLDERS = ("tools/", ".ci/", ".github/", ".dvc/", "requirements")
FILES = ("Makefile", "dvc.yaml", ".dvcignore", ".gitattributes", ".gitmodules")
BYTECODE = (".pyc", ".pyo", ".so", ".pth")
KINDS = {"120000": "a link", "160000": "a submodule"}  # by the mode in a Git tree


def is_unchanged(baseline: str, candidate: str) -> bool:
    """Return whether two commits are equal outside of docs and README."""
    return all(path.startswith(("docs/", "README")) for path in changed_paths(baseline, candidate))


def edits_of_the_gate(baseline: str, candidate: str, found: Judgement | None) -> list[str]:
    """Return what a change edits of what judges it, a line each.

    `found` is the judgement of the candidate, or None if there is none.
    """
    lines = rule_changes(baseline, candidate, found.claims if found else {})
    try:
        outputs = output_hashes(lock_at(candidate))
    except UserError:
        outputs = {}
    for path, mode in changed_paths(baseline, candidate).items():
        is_output = any(Path(path).is_relative_to(output) for output in outputs)
        if path == str(NOISE):
            lines.append(noise_change(candidate, found.runs if found else pd.DataFrame()))
        elif path.startswith(FOLDERS) or path in FILES:
            lines.append(path)
        elif mode != DELETED and not is_output and (kind := _hidden_kind(candidate, path, mode)):
            lines.append(f"{path} ({kind})")
    return lines


def rule_changes(baseline: str, candidate: str, claims: dict[str, Any]) -> list[str]:
    """Return each changed key of gate.yaml with both values, and the values of new metrics.

    `claims` are the metrics by the candidate's own code.
    """
    try:
        old, new = (flatten(yaml_at(one, GATE), reducer="dot") for one in (baseline, candidate))
    except (UserError, AttributeError, TypeError, ValueError) as error:
        return [f"{GATE}: can't be compared: {error}"]
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    before, after = (
        {key.split(".")[1] for key in map(str, one) if key.startswith("metrics.")}
        for one in (old, new)
    )
    return [f"{GATE}: {key}: {old.get(key)} -> {new.get(key)}" for key in keys] + [
        f"{name} is new in {GATE}: {claims.get(name)}, judged from the next change on"
        for name in sorted(after - before)
    ]


def noise_change(candidate: str, measured: pd.DataFrame) -> str:
    """Return whether the candidate's noise was measured again, or contradicts the gate's runs."""
    try:
        table = noise_at(candidate)
    except UserError as error:
        return f"{NOISE} can't be used: {error}"
    ours, theirs = measured.align(table, join="inner")
    wrong = ((ours - theirs).abs() > TOLERANCE).any(axis=1)
    if wrong.any():
        named = ", ".join(map(str, wrong.index[wrong]))
        return f"{NOISE} is edited: for the seeds {named} the gate has measured other numbers"
    return f"{NOISE} is measured again; {len(ours)} of its {len(table)} runs agree with the gate's"


def _hidden_kind(candidate: str, path: str, mode: str) -> str | None:
    """Return the kind of a file whose content a reviewer can't read, or None."""
    if mode in KINDS or path.endswith(BYTECODE):
        return KINDS.get(mode, "bytecode")
    return "binary" if b"\0" in file_at(candidate, path)[:8000] else None
