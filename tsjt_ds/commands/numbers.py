"""Whole numbers on the command line, as types of argparse."""

from argparse import ArgumentTypeError


def positive(text: str) -> int:
    """1 or more."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """0 or more."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < least:
        raise ArgumentTypeError(f"{value} is less than {least}")
    return value
