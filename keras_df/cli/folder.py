"""The folder that a command writes: checks before the work."""

import os

from keras_df.cli.console import UsageError


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
    if os.path.realpath(folder) == os.path.realpath(os.curdir):
        raise UsageError(
            f"'{folder}' is the folder that you are in, which would be "
            "replaced. Name another --out."
        )
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
