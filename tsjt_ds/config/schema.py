"""Strict typed sections, and validation errors that read as one line each."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from tsjt_ds.errors import UserError


class Section(BaseModel):
    """A part of a configuration file: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


SectionT = TypeVar("SectionT", bound=Section)


def nearest(name: str, known: list[str]) -> str:
    """The remedy for an unknown ``name``: the nearest of ``known``, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def validate(section: type[SectionT], values: Mapping[str, Any], where: str) -> SectionT:
    """Build ``section`` from parsed ``values``.

    Raises:
        UserError: one line for each mistake, as ``where: key.path: what (remedy)``.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = [_describe(section, item) for item in error.errors()]
        raise UserError("\n".join(f"{where}: {line}" for line in lines)) from None


def _describe(section: type[Section], item: Mapping[str, Any]) -> str:
    path = [part for part in item["loc"] if not _is_union_tag(part)]
    key = ".".join(str(part) for part in path) or "(top level)"
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key ({nearest(str(path[-1]), _keys_at(section, path[:-1]))})"
    if item["type"] == "missing":
        return f"{key}: missing (add this key)"
    if item["type"] == "value_error":
        return f"{key}: {item['ctx']['error']}"
    return f"{key}: {item['msg'][:1].lower()}{item['msg'][1:]}, not {item['input']!r}"


def _is_union_tag(part: object) -> bool:
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in ("str", "int"))


def _keys_at(section: type[Section], path: list[Any]) -> list[str]:
    """The field names of the section found by following ``path`` from ``section``."""
    current: type[BaseModel] = section
    for part in path:
        field = current.model_fields.get(str(part))
        if field is not None:
            current = _inner_model(field.annotation) or current
    return list(current.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
