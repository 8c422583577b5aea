"""saved_model: a TensorFlow SavedModel."""

import os

import keras

from keras_df.export.portable import at_inference
from keras_df.export.verification import check
from keras_df.export.verification import example_inputs
from keras_df.export.verification import expected_outputs
from keras_df.export.verification import require_tensorflow
from keras_df.files import check_folder
from keras_df.files import check_path
from keras_df.files import replacing_folder
from keras_df.graph.walk import graph_of

TOLERANCE = 1e-4
PARTS = {
    "assets",
    "fingerprint.pb",
    "keras_metadata.pb",
    "saved_model.pb",
    "variables",
}
"""What TensorFlow and Keras write into the folder of a SavedModel."""


def saved_model(model: keras.Model, filepath: str) -> float:
    """Writes a model as a TensorFlow SavedModel, once it is verified.

    It has the endpoint `serve`, takes batches of any size, and is served
    without Keras or keras_df.

    Args:
        model: `keras.Model`.
        filepath: Path of the folder to write. A SavedModel that is there is
            replaced.

    Returns:
        Float, the largest absolute difference from the outputs of Keras.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is subclassed or not built.
        OSError: If the folder beside it cannot be written to.
        FileExistsError: If `filepath` exists and is not a SavedModel, or
            holds other files beside one.
        RuntimeError: If the SavedModel does not compute what the model
            computes, or if Keras does not run on TensorFlow. Nothing is
            written then.

    Example:

    ```python
    keras_df.export.saved_model(small, "small_saved_model")
    ```
    """
    require_tensorflow("Exporting a SavedModel")
    graph_of(model)
    filepath = check_path("filepath", filepath)
    _check_replaceable(filepath)
    check_folder(os.path.dirname(filepath))
    with replacing_folder(filepath) as new:
        at_inference(model).export(new, format="tf_saved_model", verbose=False)
        return _verify(model, new)


def _check_replaceable(path):
    """Raises unless a path is free, an empty folder or a SavedModel alone."""
    if not os.path.exists(path):
        return
    files = set(os.listdir(path)) if os.path.isdir(path) else None
    if files is None or (files and "saved_model.pb" not in files):
        raise FileExistsError(
            f"'{path}' exists and is not a SavedModel. Name another folder, or "
            "remove it."
        )
    if others := sorted(files - PARTS):
        raise FileExistsError(
            f"'{path}' holds '{others[0]}' beside a SavedModel; it would be "
            "lost. Name another folder, or move it away."
        )


def _verify(model, path):
    import tensorflow as tf

    arrays = example_inputs(model)
    loaded = tf.saved_model.load(path)
    struct = keras.tree.pack_sequence_as(graph_of(model).input, arrays)
    outputs = keras.tree.flatten(loaded.serve(struct))
    actual = [output.numpy() for output in outputs]
    expected = expected_outputs(model, arrays)
    return check(expected, actual, TOLERANCE, "The SavedModel")
