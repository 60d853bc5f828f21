"""Packages that only some corpora need."""

import importlib
from typing import Any

from tsjt_ds.errors import UserError


def needed_module(names: tuple[str, ...], package: str, what: str) -> Any:
    """The first of several modules that is there.

    Args:
        names: full names of modules.
        package: what to install for the last of them.
        what: what needs it, for the error.

    Raises:
        UserError: none is.
    """
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise UserError(f"{what} needs the package {package} (pip install {package})")
