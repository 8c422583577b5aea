"""Writing files whole, or not at all."""

import contextlib
import glob
import json
import os
import shutil
import tempfile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def replacing(filepath):
    """Yields a temporary path that becomes `filepath` in the end.

    If the body raises or the process is killed, a file that was there stays
    as it was. What a killed process left is removed when the file is written
    the next time.

    Args:
        filepath: Path of the file to write, in a folder that exists.

    Yields:
        Path of the same name in a temporary folder beside it.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(filepath)))
    with contextlib.ExitStack() as stack:
        with _locked(folder):  # None may take a new folder for an old one.
            _remove_abandoned(folder, name)
            temporary = tempfile.TemporaryDirectory(
                prefix=f".{name}.", suffix=".new", dir=folder
            )
            temporary = stack.enter_context(temporary)
            stack.enter_context(_locked(temporary))
        path = os.path.join(temporary, name)
        yield path
        os.replace(path, os.path.join(folder, name))


def _remove_abandoned(folder, name):
    """Removes temporary folders of processes that are no more."""
    pattern = f".{glob.escape(name)}.*.new"
    for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
        with _locked(path, wait=False) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder, wait=True):
    """Locks a folder for as long as this process lives, if that works here.

    Yields:
        Whether it is locked: another process may have it, or the file system
        may know no locks.
    """
    if fcntl is None:
        yield False
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor, wait)
    finally:
        os.close(descriptor)


def _lock(descriptor, wait):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


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
