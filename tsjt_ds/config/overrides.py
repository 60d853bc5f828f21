"""``--set key.path=value`` on the command line."""

import argparse
import copy
from collections.abc import Mapping
from typing import Any

import yaml

from tsjt_ds.config.strict_yaml import load_yaml
from tsjt_ds.errors import UserError

DEEPSPEED_PREFIX = "deepspeed."
"""Before a key of the DeepSpeed file."""


def add_set_option(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``--set``; its values come as ``overrides``."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=help
    )


def split_overrides(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Those of the recipe, and those of the DeepSpeed file, whose prefix is taken off."""
    ours = [item for item in overrides if not item.startswith(DEEPSPEED_PREFIX)]
    theirs = [item for item in overrides if item.startswith(DEEPSPEED_PREFIX)]
    return ours, [item.removeprefix(DEEPSPEED_PREFIX) for item in theirs]


def apply_overrides(values: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A copy of ``values`` with each ``key.path=value`` put in; list items go by number.

    Raises:
        UserError: an override has no ``=``, its value is no YAML, or its path runs through a
            plain value.
    """
    result = copy.deepcopy(dict(values))
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise UserError(f"--set {override}: no key.path=value (e.g. --set seed=2)")
        _put(result, path.split("."), value_of(text, f"--set {override}"), override)
    return result


def value_of(text: str, option: str) -> Any:
    """What YAML makes of the value of an option, which is given whole for the message.

    Raises:
        UserError: it is no YAML.
    """
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        raise UserError(f"{option}: its value is no valid YAML (quote it)") from None


def _put(values: Any, path: list[str], value: Any, override: str) -> None:
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(values, list) and key.isdigit() and int(key) < len(values):
            index: Any = int(key)
        elif isinstance(values, dict):
            index = key
        else:
            raise UserError(f"--set {override}: {'.'.join(path[:depth])} has no key {key!r}")
        if last:
            values[index] = value
        elif isinstance(values, dict):
            values = values.setdefault(index, {})
        else:
            values = values[index]
