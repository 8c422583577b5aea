"""Checks of arguments, in the words that Keras uses."""

import math
import numbers
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def shown(value):
    """Returns how a message shows a value: shortly, and with its type."""
    return f"{_SHORT.repr(value)} (of type {type(value).__name__})"


def check_type(name, value, kind, wanted, optional=False):
    """Raises TypeError unless an argument is of a type.

    Args:
        name: Name of the argument.
        value: What was passed.
        kind: Type, or tuple of types.
        wanted: What the argument must be, in words, with an example.
        optional: Whether None will do too.
    """
    if isinstance(value, kind) or (optional and value is None):
        return
    raise TypeError(
        f"`{name}` must be {wanted}. Received: {name}={shown(value)}"
    )


def check_flag(name, value):
    """Raises TypeError unless an argument is True or False."""
    check_type(name, value, bool, "True or False")


def check_positive_integer(name, value):
    """Returns an argument as an `int`.

    Raises:
        ValueError: If it is not a positive integer.
    """
    if not _is_integer(value) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: "
            f"{name}={shown(value)}"
        )
    return int(value)


def check_seed(name, value):
    """Raises ValueError unless an argument is an integer of at least 0."""
    if not _is_integer(value) or value < 0:
        raise ValueError(
            f"`{name}` must be an integer of at least 0. Received: "
            f"{name}={shown(value)}"
        )


def check_choice(name, value, choices):
    """Raises ValueError unless an argument is one of a few strings."""
    if isinstance(value, str | None) and value in choices:
        return
    raise ValueError(
        f"`{name}` must be one of {tuple(choices)}. Received: "
        f"{name}={shown(value)}"
    )


def is_finite_number(value):
    """Tells whether a value is a real number, neither NaN nor infinite."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer that no float can hold.
        return False


def _is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
