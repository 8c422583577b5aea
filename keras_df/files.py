"""Writing files whole, or not at all."""

import contextlib
import glob
import json
import os
import shutil
import tempfile

from keras_df.checks import check_type

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

    Raises:
        OSError: If it cannot be written there; the message names it.
    """
    target = check_target(filepath)
    folder, name = os.path.split(target)
    try:
        with _temporary_folder(folder, name) as temporary:
            path = os.path.join(temporary, name)
            yield path
            os.replace(path, target)
    except OSError as error:
        reason = f"{error.strerror or error}. Nothing was written"
        raise OSError(error.errno, reason, os.fspath(filepath)) from error


@contextlib.contextmanager
def replacing_folder(folder, rescue=None):
    """Yields an empty folder that becomes `folder` in the end.

    If the body raises or the process is killed in it, a folder that was there
    stays as it was. What a killed process left is removed when the folder is
    written the next time.

    Args:
        folder: Path of the folder to write, in one that exists.
        rescue: Function of the path of the new folder. It is called if that
            folder does not get into place, before it is removed.

    Yields:
        Path of an empty folder in a temporary one beside it.

    Raises:
        OSError: If it cannot be moved into place, or is a mount point, which
            none can take the place of.
    """
    target = check_path("folder", folder)
    if os.path.ismount(target):
        raise OSError(
            f"'{folder}' is a mount point, which cannot be replaced. Name a "
            "folder in it."
        )
    with _temporary_folder(*os.path.split(target)) as temporary:
        new, old = (os.path.join(temporary, x) for x in ("new", "old"))
        os.mkdir(new)
        try:
            yield new
            _move_into_place(new, target, old)
        except BaseException:
            if rescue is not None:
                rescue(new)
            raise


def _move_into_place(new, folder, old):
    """Moves a folder; what was there goes to `old`, and back if it fails."""
    try:
        if os.path.exists(folder):
            os.rename(folder, old)
        os.replace(new, folder)
    except OSError as error:
        reason = f"{error.strerror or error}. Nothing was written"
        raise OSError(error.errno, reason, folder) from error
    finally:
        if os.path.exists(old) and not os.path.exists(folder):
            os.rename(old, folder)


@contextlib.contextmanager
def _temporary_folder(folder, name):
    """A folder that is locked while it is in use, old ones removed."""
    with contextlib.ExitStack() as stack:
        with _locked(folder):  # None may take a new folder for an old one.
            _remove_abandoned(folder, name)
            temporary = tempfile.TemporaryDirectory(
                prefix=f".{name}.", suffix=".new", dir=folder
            )
            temporary = stack.enter_context(temporary)
            stack.enter_context(_locked(temporary))
        yield temporary


def check_target(filepath):
    """Checks that a file can be written, before the work that makes it.

    Args:
        filepath: Path of the file.

    Returns:
        The path without links.

    Raises:
        TypeError: If it is no path.
        OSError: If its folder is missing, is no folder or may not be written
            to, or if what is there is no file; as the matching subclass.
    """
    target = check_path("filepath", filepath)
    if os.path.isdir(target):
        raise IsADirectoryError(
            f"'{filepath}' is a folder. Name a file inside it."
        )
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(f"'{filepath}' is a device, not a file. Name a file.")
    check_folder(os.path.dirname(target))
    return target


def check_folder(folder):
    """Raises OSError unless a folder exists and may be written to."""
    if not os.path.exists(folder):
        above = os.path.dirname(folder)
        while not os.path.exists(above):
            above = os.path.dirname(above)
        if os.path.isdir(above):
            raise FileNotFoundError(
                f"The folder '{folder}' does not exist. Make it first."
            )
        folder = above
    if not os.path.isdir(folder):
        raise NotADirectoryError(
            f"'{folder}' is a file, not a folder. Name another folder."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"The folder '{folder}' may not be written to. Name another one, "
            "or change its permissions."
        )


def check_path(name, path):
    """Returns a path without links.

    Raises:
        TypeError: If it is no path.
        ValueError: If it is empty or holds a null character.
    """
    check_type(name, path, (str, os.PathLike), "a path")
    path = os.fspath(path)
    if not path or "\0" in path:
        raise ValueError(f"`{name}` must be a path. Received: {name}={path!r}")
    return os.path.realpath(path)


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
        TypeError: If `filepath` is no path.
        ValueError: If the file is not JSON, or `parse` raises it; the message
            names the file.
    """
    check_path("filepath", filepath)
    with open(filepath, "rb") as file:
        content = file.read()
    try:
        return parse(_parsed(content))
    except ValueError as error:
        raise ValueError(f"Cannot read '{filepath}': {error}") from error


def _parsed(content):
    if not content.strip():
        raise ValueError("the file is empty.")
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply.") from None
    except ValueError as error:
        raise ValueError(
            f"it is not JSON, or was cut off ({error}). Write it anew, or "
            "restore it from a copy."
        ) from error


def _refuse_constant(name):
    raise ValueError(f"it holds {name}, which is no JSON number")
