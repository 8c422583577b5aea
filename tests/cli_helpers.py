"""A model and data in files, and a command line run in this process."""

import json

import keras
import numpy as np
from search_helpers import separable_data
from search_helpers import small_network

from keras_df.cli import main


def write_files(folder):
    """Writes `model.keras` and `data.npz`; returns their paths."""
    keras.utils.set_random_seed(0)
    model = small_network()
    x, y = separable_data(160)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(x, y, epochs=3, verbose=0)
    model.save(folder / "model.keras")
    np.savez(
        folder / "data.npz",
        x=x[:128],
        y=y[:128],
        x_test=x[128:],
        y_test=y[128:],
    )
    return folder / "model.keras", folder / "data.npz"


class Cli:
    """Runs command lines; what it captures is read from `capsys`."""

    def __init__(self, capsys):
        self._capsys = capsys

    def run(self, *argv):
        """Runs a command; returns its status, stdout and stderr."""
        self._capsys.readouterr()
        status = main([str(word) for word in argv])
        out, err = self._capsys.readouterr()
        return status, out, err

    def json(self, *argv):
        """Runs a command that has to succeed; returns its JSON."""
        status, out, err = self.run(*argv, "--json")
        assert status == 0, err

        def refuse(constant):
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(out, parse_constant=refuse)

    def refuse(self, status, *argv):
        """Runs a command that has to fail; returns the one line it says."""
        found, out, err = self.run(*argv, "--quiet")
        assert (found, out) == (status, ""), err
        assert err.startswith("keras-df") and err.count("\n") == 1, err
        return err
