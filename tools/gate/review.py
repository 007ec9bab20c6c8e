"""List what of a change edits the gate itself, for the person who reviews it."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from flatten_dict import flatten

from fashion.errors import UserError
from tools.dvc_lock import lock_at
from tools.gate.config import GATE
from tools.gate.noise import NOISE, noise_at
from tools.gate.score import ROUNDING
from tools.git import git, git_bytes, yaml_at

# what decides how a change is judged
FOLDERS = ("tools/", ".ci/", ".github/", ".dvc/", "requirements")
FILES = ("Makefile", "dvc.yaml", ".dvcignore", ".gitattributes", ".gitmodules", str(GATE))
BYTECODE = (".pyc", ".pyo", ".so", ".pth")
LINK, SUBMODULE = "120000", "160000"  # modes in a Git tree


class ChangedFile(NamedTuple):
    path: str
    mode: str  # "000000" where the file is deleted
    blob: str


def is_unchanged(baseline: str, candidate: str) -> bool:
    """Whether two commits are equal outside of docs and README."""
    return not any(
        not file.path.startswith("docs/") and not file.path.startswith("README")
        for file in changed_files(baseline, candidate)
    )


def changed_files(baseline: str, candidate: str) -> list[ChangedFile]:
    """Return the files that differ between two commits, by plumbing that no setting changes."""
    fields = git("diff-tree", "-r", "-z", "--no-renames", baseline, candidate).split("\0")
    return [
        ChangedFile(path, *(entry.split()[at] for at in (1, 3)))
        for entry, path in zip(fields[:-1:2], fields[1::2], strict=True)
    ]


def edits_of_the_gate(
    baseline: str, candidate: str, measured: pd.DataFrame | None = None
) -> list[str]:
    """Return what a change edits of what judges it, a line each.

    `measured` are the gate's own scores of the candidate so far, a row a seed.
    """
    measured = pd.DataFrame() if measured is None else measured
    lines = [*rule_changes(baseline, candidate)]
    files = changed_files(baseline, candidate)
    outputs = tuple(
        out["path"] for stage in _lock_or_nothing(candidate).values() for out in stage["outs"]
    )
    for file in files:
        if file.path == str(NOISE):
            lines.append(noise_change(candidate, file, measured))
        elif file.path.startswith(FOLDERS) or file.path in FILES[:-1]:
            lines.append(file.path)
        elif kind := _hidden_content(file, outputs):
            lines.append(f"{file.path} ({kind})")
    return lines


def rule_changes(baseline: str, candidate: str) -> list[str]:
    """Return each changed key of gate.yaml, with both values."""
    try:
        old, new = (flatten(yaml_at(one, GATE), reducer="dot") for one in (baseline, candidate))
    except (UserError, AttributeError, TypeError) as error:
        return [f"{GATE}: can't be compared: {error}"]
    return [
        f"{GATE}: {key}: {old.get(key)} -> {new.get(key)}"
        for key in old | new
        if old.get(key) != new.get(key)
    ]


def new_metrics(baseline: str, candidate: str, values: dict[str, Any]) -> list[str]:
    """Return a remark on each metric that is new in gate.yaml; `values` has their values."""
    try:
        old, new = (yaml_at(one, GATE)["metrics"].keys() for one in (baseline, candidate))
    except (UserError, AttributeError, TypeError, KeyError):
        return []
    return [
        f"{name} is new in {GATE}: {values.get(name, 'not measured')}, judged from the next change"
        " on."
        for name in new - old
    ]


def noise_change(candidate: str, file: ChangedFile, measured: pd.DataFrame) -> str:
    """Say whether the candidate's noise was measured again, or contradicts what was measured."""
    if set(file.mode) == {"0"}:
        return f"{NOISE} is deleted"
    try:
        noise = noise_at(candidate)
    except UserError as error:
        return f"{NOISE} does not belong to the candidate: {error}"
    table = noise.table
    seeds = [seed for seed in measured.index if seed in table.index]
    columns = [name for name in table if name in measured]
    wrong = (abs(table.loc[seeds, columns] - measured.loc[seeds, columns]) > ROUNDING).any(axis=1)
    if wrong.any():
        named = ", ".join(map(str, wrong.index[wrong]))
        return f"{NOISE} is edited: for the seeds {named} the gate has measured other numbers"
    return f"{NOISE} is measured again; {len(seeds)} of its {len(table)} runs agree with the gate's"


def _lock_or_nothing(revision: str) -> dict:
    try:
        return lock_at(revision)
    except UserError:
        return {}


def _hidden_content(file: ChangedFile, outputs: tuple[str, ...]) -> str | None:
    """Return what a reviewer can't read in a file outside of the outputs: its kind."""
    if set(file.mode) == {"0"} or any(Path(file.path).is_relative_to(path) for path in outputs):
        return None
    if file.mode in (LINK, SUBMODULE):
        return "a link" if file.mode == LINK else "a submodule"
    if file.path.endswith(BYTECODE):
        return "bytecode"
    return "binary" if b"\0" in git_bytes("cat-file", "blob", file.blob)[:8000] else None
