"""A folder of results: written whole, or not at all."""

import contextlib
import os
import tempfile

from keras_df.cli.console import UsageError
from keras_df.files import move_into_place


@contextlib.contextmanager
def replacing_folder(folder):
    """Yields a temporary folder that becomes `folder` in the end.

    If the body raises, a folder that was there stays as it was.

    Args:
        folder: Path of the folder to write, in one that exists.

    Yields:
        Path of an empty folder beside it.
    """
    folder = os.path.abspath(os.fspath(folder))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as temporary:
        new, old = (os.path.join(temporary, x) for x in ("new", "old"))
        os.mkdir(new)
        yield new
        move_into_place(new, folder, old)


def check_folder(folder, known, overwrite):
    """Checks that a folder may be written, and that nothing is lost by it.

    Args:
        folder: Path of the folder.
        known: Names of the files that may be replaced.
        overwrite: Whether they may.

    Raises:
        UsageError: If not.
    """
    if os.path.islink(folder) or os.path.isfile(folder):
        raise UsageError(f"'{folder}' is not a folder. Name another --out.")
    parent = os.path.dirname(os.path.abspath(folder))
    if not os.path.isdir(parent):
        raise UsageError(f"There is no folder '{parent}' to write to.")
    found = os.listdir(folder) if os.path.isdir(folder) else []
    foreign = sorted(set(found) - set(known))
    if foreign:
        raise UsageError(
            f"'{folder}' holds files that this command did not write, such as "
            f"'{foreign[0]}'. They would be lost: name another --out."
        )
    if found and not overwrite:
        raise UsageError(f"'{folder}' exists. Say --overwrite to replace it.")
