"""The console script `keras-df`: quiets TensorFlow, then runs the tool.

It lies outside of keras_df because TensorFlow writes its notes to stderr while
keras_df is imported, before any code of it could prevent that. Importing the
library changes neither the environment nor the streams; this script does.
"""

import contextlib
import os
import sys
import tempfile


def main():
    """Runs `keras-df` and exits with its status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _held_back_stderr():
        from keras_df.cli import main
    sys.exit(main())


@contextlib.contextmanager
def _held_back_stderr():
    """Holds back what native code writes to stderr; shows it on failure."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    main()
