"""Read configuration files: YAML 1.2, checked against a strict schema."""

import reprlib
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError

from fashion.core.errors import UserError


def _one_line(text: str) -> str:
    if not text or text != text.strip() or {"Cc", "Cs", "Zl", "Zp"} & {*map(category, text)}:
        raise ValueError(f"{text!r} is not one line of text without blanks at its ends")
    return text


Name = Annotated[str, AfterValidator(_one_line)]


class StrictModel(BaseModel):
    """A section of a configuration file, without unknown keys and values of other types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


Schema = TypeVar("Schema", bound=StrictModel)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file. Raises UserError if it is missing or not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file. `git checkout {path}` restores it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str | bytes, source: str) -> Any:
    """Return the content of a YAML text, as DVC understands it.

    By YAML 1.2, 1e-5 is a number, `on` a word, and a repeated key an error. Raises UserError
    naming `source` and the line that is not YAML.
    """
    try:
        return deepcopy(_parsed(text))
    except MarkedYAMLError as error:
        marks = ((error.context, error.context_mark), (error.problem, error.problem_mark))
        parts = [f"{text} (line {mark.line + 1})" for text, mark in marks if text and mark]
        raise UserError(f"{source}: not YAML: {', '.join(parts)}") from None
    except (YAMLError, ValueError, RecursionError) as error:  # binary, an impossible date, too deep
        raise UserError(f"{source}: not YAML: {error}") from None


@lru_cache
def _parsed(text: str | bytes) -> Any:  # cached, since a long dvc.lock takes 20 ms
    return YAML(typ="safe").load(text)


def check_config(values: Any, source: str, schema: type[Schema]) -> Schema:
    """Return the content of a configuration file as its schema.

    Raises UserError naming `source` and each wrong key, its value, and what was expected.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        listed = f"{schema.__module__.replace('.', '/')}.py lists all"
        problems = (_sentence(problem, listed) for problem in error.errors())
        raise UserError("\n".join(f"{source}: {problem}" for problem in problems)) from None


def _sentence(problem: dict, listed: str) -> str:
    name = ".".join(map(str, problem["loc"])) or "the whole file"
    if problem["type"] == "extra_forbidden":
        return f"{name} is not a known key. Check its spelling; {listed}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}"
    return f"{name} is {reprlib.repr(problem['input'])}. {problem['msg']}"
