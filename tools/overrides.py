"""Set params by their dotted names: {"train.epochs": 3}."""

from collections.abc import MutableMapping
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fashion.core.errors import UserError
from fashion.core.files import atomic_write
from fashion.core.params import PARAMS, Params
from fashion.core.strict_yaml import check_config


def set_dotted(mapping: MutableMapping, name: str, value: Any, source: str = "") -> None:
    """Set a value in nested mappings. Raises UserError naming `source` if the name is unknown."""
    *sections, last = name.split(".")
    try:
        section = reduce(getitem, sections, mapping)
        section[last]
        section[last] = value
    except (LookupError, TypeError):
        raise UserError(
            f"{source}: {name} is not a known param. Check its spelling;"
            " fashion/core/params.py lists all"
        ) from None


def with_overrides(raw_params: dict, overrides: dict[str, Any], source: str) -> dict:
    """Return a copy of the content of a params file with some params replaced.

    Raises UserError naming `source`, where the new values come from, if one is not allowed, or
    naming params.yaml if one of its own is not.
    """
    check_config(raw_params, str(PARAMS), Params)
    changed = replace_params(raw_params, overrides, source)
    check_config(changed, source, Params)
    return changed


def replace_params(raw_params: dict, overrides: dict[str, Any], source: str) -> dict:
    """Return a copy as `with_overrides` does, but check no value: an older commit's may not pass.

    Raises UserError naming `source` if a name is unknown.
    """
    changed = deepcopy(raw_params)
    for name, value in overrides.items():
        set_dotted(changed, name, value, source)
    return changed


def write_params(overrides: dict[str, Any], path: Path = PARAMS) -> None:
    """Set params in a params file; keep the rest of the file, comments included."""
    yaml = YAML()
    yaml.width = 1000
    content = yaml.load(path)
    for name, value in overrides.items():
        set_dotted(content, name, value, path.name)
    with atomic_write(path) as tmp_path:
        yaml.dump(content, tmp_path)
