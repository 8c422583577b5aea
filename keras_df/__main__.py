"""`python -m keras_df` is the command line `keras-df`."""

import sys

from keras_df.cli import main

if __name__ == "__main__":
    sys.exit(main())
