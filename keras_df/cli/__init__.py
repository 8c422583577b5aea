"""The command line `keras-df`."""

from keras_df.cli.main import main as main
