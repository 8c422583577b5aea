"""A search that a test kills: writes where it stands, goes on when started.

    python search_process.py FOLDER 2
    python search_process.py FOLDER epoch
    python search_process.py FOLDER load

It appends a line to FOLDER/steps.txt in every step, and writes
FOLDER/result.npz and FOLDER/plan.json in the end. With `load` it goes on from
FOLDER/search.keras, saved after the second epoch.
"""

import os
import sys

import keras
import numpy as np
from keras import layers
from search_helpers import compiled
from search_helpers import separable_data

import keras_df as kdf

EPOCHS = 4
BATCH = 16
STEPS = EPOCHS * 96 // BATCH


def network():
    """Batch statistics and random numbers: state that has to come back."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    x = layers.Conv2D(12, 3, padding="same", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def new_search(learning_rate=5e-2, **options):
    keras.utils.set_random_seed(0)
    config = kdf.SearchConfig(refresh_steps=5)
    search = kdf.SearchModel(network(), kdf.MACs(0.5), config=config)
    return compiled(search, learning_rate, **options)


class Diary(keras.callbacks.Callback):
    """Writes down which steps were begun."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_begin(self, batch, logs=None):
        with open(self.path, "a", encoding="utf-8") as file:
            print(batch, file=file)


def run(search, callbacks=(), epochs=EPOCHS, **options):
    x, y = separable_data()
    search.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )
    return search


def outcome(search):
    """What two searches are compared by, arrays by name."""
    schedule = search.schedule
    found = {
        "logits": search.logits,
        "thresholds": search.thresholds,
        "step": schedule.step,
        "start": search.start,
    }
    return {k: keras.ops.convert_to_numpy(v) for k, v in found.items()}


def main(folder, how):
    def path(name):
        return os.path.join(folder, name)

    diary = Diary(path("steps.txt"))
    if how == "load":
        search = keras.models.load_model(path("search.keras"))
        run(search, [diary], initial_epoch=2)
    else:
        save_freq = how if how == "epoch" else int(how)
        backup = keras.callbacks.BackupAndRestore(path("backup"), save_freq)
        search = run(new_search(), [backup, diary])
    search.plan().save(path("plan.json"))
    np.savez(path("result.npz"), **outcome(search))


if __name__ == "__main__":
    main(*sys.argv[1:])
