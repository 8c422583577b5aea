"""Writing files whole, or not at all."""

import contextlib
import json
import os
import tempfile


@contextlib.contextmanager
def replacing(filepath):
    """Yields a temporary path that becomes `filepath` in the end.

    If the body raises, a file that was there stays as it was.

    Args:
        filepath: Path of the file to write, in a folder that exists.

    Yields:
        Path of the same name in a temporary folder beside it.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(filepath)))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = os.path.join(temporary, name)
        yield path
        os.replace(path, os.path.join(folder, name))


def write_json(filepath, config):
    """Writes plain values as JSON, replacing the file once complete."""
    with replacing(filepath) as new, open(new, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)


def read_json(filepath, parse):
    """Reads JSON and returns what `parse` makes of it.

    Raises:
        ValueError: If the file is not JSON, or `parse` raises it; the message
            names the file.
    """
    try:
        with open(filepath, encoding="utf-8") as file:
            return parse(json.load(file))
    except ValueError as error:
        raise ValueError(f"Cannot read '{filepath}': {error}") from error
