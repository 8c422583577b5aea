"""Writing files whole, or not at all."""

import contextlib
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
