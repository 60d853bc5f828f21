"""The table's file: arms (recipes with some keys set) in several sizes."""

import json
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml
from pydantic import model_validator

from tsjt_ds.config.overrides import split_overrides
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.config.schema import Section, nearest, validate
from tsjt_ds.config.strict_yaml import load_yaml
from tsjt_ds.errors import UserError

_PARAMETER = re.compile(r"\$(\w+)(?: \* (\d+/[1-9]\d*))?")


class Arm(Section):
    """A recipe with some keys set."""

    recipe: str
    """Relative to the table's file."""
    set: dict[str, Any] = {}
    """Recipe keys, or DeepSpeed keys behind ``deepspeed.``, and their values."""
    teacher: str = ""
    """The arm whose run, of the same seed, teaches: the recipe's ``teacher.run``."""
    sequence_level: bool = False
    """The teacher translates the training text instead."""
    begins: str = ""
    """An arm before it whose run, of the same seed, it shares the first stages with: they are not
    trained again."""
    teacher_capacity: str = "high"
    """Which of the teacher's capacities translates."""


class Size(Section):
    """What all arms have in common."""

    deepspeed: str
    """DeepSpeed JSON, relative to the table's file."""
    prepared: str
    """Name of the prepared data's directory; sizes that name the same share it."""
    parameters: dict[str, Any] = {}
    set: dict[str, Any] = {}
    """As an arm's; the arm's own come after."""
    distil: list[str] = []
    """Further arguments of ``tsjt distil``."""
    evaluate: list[str] = []
    """Further arguments of ``tsjt evaluate``."""


class Table(Section):
    """A whole file. ``$name`` in a value stands for a parameter, ``$name * 1/3`` for a part."""

    parameters: dict[str, Any] = {}
    arms: dict[str, Arm]
    sizes: dict[str, Size]
    compare: list[str] = []
    """Further arguments of ``tsjt compare``."""

    @model_validator(mode="after")
    def _teachers_are_arms_before(self) -> "Table":
        before: list[str] = []
        for name, arm in self.arms.items():
            if arm.teacher and arm.teacher not in before:
                raise ValueError(f"arm {name!r} has the teacher {arm.teacher!r}, no arm before it")
            if arm.sequence_level and not arm.teacher:
                raise ValueError(f"arm {name!r} has sequence_level without a teacher (name one)")
            if arm.begins and arm.begins not in before:
                raise ValueError(f"arm {name!r} begins as {arm.begins!r}, no arm before it")
            before.append(name)
        return self

    def parameters_of(self, size: str) -> dict[str, Any]:
        """The values of all parameters in a size."""
        return {**self.parameters, **self.sizes[size].parameters}

    def settings(self, arm: str, size: str, parameters: Mapping[str, Any]) -> list[str]:
        """The ``key.path=value`` of an arm in a size, without the size's places of files.

        Args:
            arm: one of the table's.
            size: one of the table's.
            parameters: values that come before the size's and the table's.

        Raises:
            UserError: a value names an unknown parameter, or itself.
        """
        known = {**self.parameters_of(size), **parameters}
        values = {**self.sizes[size].set, **self.arms[arm].set}
        return [
            f"{key}={json.dumps(_filled(value, known, f'arm {arm!r}: {key}'))}"
            for key, value in values.items()
        ]

    def with_needed(self, arms: list[str]) -> Iterator[str]:
        """The arms asked for and those that they need, in the table's order."""
        wanted = set(arms)
        for name, arm in reversed(self.arms.items()):
            if name in wanted:
                wanted |= {arm.teacher, arm.begins}
        return (name for name in self.arms if name in wanted)


def load_table(path: Path) -> Table:
    """Read and check a table.

    Raises:
        UserError: the file is missing, is no YAML, or breaks the schema.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (name an ablation's table)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    return validate(Table, values if isinstance(values, dict) else {}, str(path))


def check_name(kind: str, name: str, known: Mapping[str, Any]) -> str:
    """``name``, if it is one of ``known``.

    Raises:
        UserError: it is not.
    """
    if name not in known:
        raise UserError(f"no {kind} {name!r} ({nearest(name, list(known))})")
    return name


def recipe_of(path: Path, settings: list[str]) -> Recipe:
    """The recipe of an arm; DeepSpeed keys are left aside.

    Raises:
        UserError: see :func:`tsjt_ds.config.recipe.load_recipe`.
    """
    return load_recipe(path, split_overrides(settings)[0])


def _filled(value: Any, parameters: Mapping[str, Any], where: str) -> Any:
    """``value`` with its parameters in their places."""
    if isinstance(value, dict):
        return {key: _filled(inner, parameters, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, parameters, where) for inner in value]
    match = _PARAMETER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    name, part = match.groups()
    if name not in parameters:
        raise UserError(f"{where}: no parameter {name!r} ({nearest(name, list(parameters))})")
    # Out of its own reach, so that it cannot be defined by itself.
    others = {key: other for key, other in parameters.items() if key != name}
    found = _filled(parameters[name], others, where)
    if part is None:
        return found
    if not isinstance(found, int):
        raise UserError(f"{where}: {value!r} is a part of {found!r} (that must be a whole number)")
    return round(found * Fraction(part))
