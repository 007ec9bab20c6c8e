"""Other values for params, by their dotted names: {"train.epochs": 3}."""

from collections.abc import MutableMapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fashion.core.errors import UserError
from fashion.core.files import atomic_write
from fashion.core.params import PARAMS, Params
from fashion.core.strict_yaml import check_config


def set_dotted(mapping: MutableMapping, name: str, value: Any) -> None:
    """Set a value in nested mappings, in which `name` must be there. Raises KeyError otherwise."""
    section, _, rest = name.partition(".")
    if section not in mapping or (rest and not isinstance(mapping[section], MutableMapping)):
        raise KeyError(name)
    if rest:
        set_dotted(mapping[section], rest, value)
    else:
        mapping[section] = value


def with_overrides(raw_params: dict, overrides: dict[str, Any], source: str) -> dict:
    """Return the content of a params file with other values for some params, checked.

    `source` names in errors where the values come from.
    """
    changed = deepcopy(raw_params)
    for name, value in overrides.items():
        try:
            set_dotted(changed, name, value)
        except KeyError:
            raise UserError(
                f"{source}: {name} is not a known param. Check its spelling;"
                " fashion/core/params.py lists all"
            ) from None
    check_config(changed, source, Params)
    return changed


def write_params(overrides: dict[str, Any], path: Path = PARAMS) -> None:
    """Set params in a params file and leave the rest of it as it is, comments and all.

    Raises UserError naming a param that the file does not have.
    """
    yaml = YAML()
    yaml.width = 1000
    content = yaml.load(path)
    for name, value in overrides.items():
        try:
            set_dotted(content, name, value)
        except KeyError:
            raise UserError(f"{path.name} has no param {name}") from None
    with atomic_write(path) as tmp_path:
        yaml.dump(content, tmp_path)
