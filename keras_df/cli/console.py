"""What commands say, and how they fail."""

import contextlib
import os
import sys
from dataclasses import dataclass


class UsageError(Exception):
    """The command line cannot be carried out as it is given."""


@dataclass(frozen=True)
class Result:
    """What a command has to say on stdout.

    Attributes:
        text: String for people.
        values: Plain values for machines, printed as JSON.
    """

    text: str
    values: dict


def say(args, message):
    """Tells on stderr what is going on, unless `--quiet` is given."""
    if not args.quiet:
        print(message, file=sys.stderr, flush=True)


def verbosity(args):
    """The `verbose` of Keras: a bar on a terminal, else a line per epoch."""
    if args.quiet:
        return 0
    return 1 if sys.stderr.isatty() else 2


@contextlib.contextmanager
def as_usage():
    """Turns what the library says of an argument into a `UsageError`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def existing(path):
    """Checks that a file or folder to read exists; returns its path."""
    if not os.path.exists(path):
        raise UsageError(f"There is no '{path}'.")
    return path


def writable(path, overwrite):
    """Checks that a file may be written; returns its path."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"There is no folder '{folder}' to write to.")
    if os.path.exists(path) and not overwrite:
        raise UsageError(f"'{path}' exists. Say --overwrite to replace it.")
    return path
