"""to_tf_keras: a Keras 3 model -> the `tf_keras` model that tfmot takes."""

import keras
from keras import tree

from keras_df.export.verification import check
from keras_df.export.verification import example_inputs
from keras_df.export.verification import expected_outputs
from keras_df.export.verification import require_tensorflow
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph
from keras_df.graph.walk import walk
from keras_df.graph.walk import walk_nested
from keras_df.interop.layers import copy_weights
from keras_df.interop.layers import translate_layer
from keras_df.interop.operations import translate_operation

TOLERANCE = 1e-5
# Where Keras itself computes in 16 bits and tf_keras in 32.
REDUCED_TOLERANCE = 2e-2


def to_tf_keras(model: keras.Model):
    """Makes a `tf_keras` model with the layers and weights of a Keras 3 model.

    It is a Functional model of stock `tf_keras` layers and TensorFlow
    operations, in float32, as tfmot (TensorFlow Model Optimization) takes it.
    tfmot takes no nested models, so what is inside them comes directly into
    the new model; a layer's name that is there twice becomes its path, joined
    by `_`. Shared layers stay shared.

    Keras 3 and `tf_keras` run side by side; `TF_USE_LEGACY_KERAS` need not be
    set. tfmot sets it itself when it is imported, for what is imported after
    it and for subprocesses: import Keras and keras_df first.

    Args:
        model: A built Functional or Sequential model. It is not modified.

    Returns:
        A `tf_keras.Model`, not compiled, whose outputs are those of `model`
        to 1e-5 of the largest (to 2e-2 where `model` computes in 16 bits).

    Raises:
        ImportError: If `tf_keras` is not installed.
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is subclassed, or has a layer or operation that
            cannot be translated; the message names it.
        RuntimeError: If the outputs differ, or if Keras does not run on
            TensorFlow.

    Example:

    ```python
    import tensorflow_model_optimization as tfmot

    small = keras_df.interop.to_tf_keras(keras_df.compress(model, plan))
    annotated = keras_df.interop.quantize_annotate(small)
    with tfmot.quantization.keras.quantize_scope():
        aware = tfmot.quantization.keras.quantize_apply(annotated)
    ```
    """
    require_tensorflow("Converting to tf_keras")
    tf_keras = import_tf_keras()
    graph = graph_of(model)
    translator = _Translator(_names_within(model))
    inputs = tree.map_structure(_input_like, graph.input)
    outputs = walk(model, tree.flatten(inputs), translator.visit)
    converted = tf_keras.Model(inputs, outputs, name=model.name)
    translator.copy_weights()
    _verify(model, converted)
    return converted


def import_tf_keras():
    """Imports `tf_keras`, or says how to install it."""
    try:
        import tf_keras
    except ImportError as error:
        raise ImportError(
            "This needs the package `tf_keras`: `pip install keras_df[tfmot]`."
        ) from error
    return tf_keras


class _Translator:
    """Calls what an operation becomes, each operation translated once."""

    def __init__(self, names):
        self._names = names
        self._new = {}
        self._pending = []

    def visit(self, path, operation, *args, **kwargs):
        if is_graph(operation):
            return walk_nested(path, operation, self.visit, args, kwargs)
        # Keras notes arguments that were left out, such as `training`.
        kwargs = {k: x for k, x in kwargs.items() if x is not None}
        try:
            return self._translated(path, operation)(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"'{'/'.join(path)}' (of type {type(operation).__name__}) "
                f"cannot be translated to tf_keras: {error}"
            ) from error

    def _translated(self, path, operation):
        key = id(operation)
        if key not in self._new:
            self._new[key] = self._translate(path, operation)
        return self._new[key]

    def _translate(self, path, operation):
        once = self._names.count(operation.name) == 1
        name = operation.name if once else "_".join(path)
        if not isinstance(operation, keras.Layer):
            return translate_operation(operation, name)
        layer, call = translate_layer(operation, name)
        if layer is not None:
            self._pending.append((path, operation, layer))
        return call

    def copy_weights(self):
        """Sets the weights of the new layers, now that all are built."""
        for path, old, new in self._pending:
            copy_weights("/".join(path), old, new)


def _names_within(model):
    """Names of the distinct operations of a model and of those nested in it."""
    found = {}

    def collect(model):
        for operation in graph_of(model).operations:
            if is_graph(operation):
                collect(operation)
            else:
                found[id(operation)] = operation.name

    collect(model)
    return list(found.values())


def _input_like(tensor):
    return import_tf_keras().Input(
        batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name
    )


def _verify(model, converted):
    arrays = example_inputs(model)
    struct = tree.pack_sequence_as(graph_of(model).input, arrays)
    outputs = tree.flatten(converted(struct, training=False))
    actual = [output.numpy() for output in outputs]
    expected = expected_outputs(model, arrays)
    policies = {x.compute_dtype for x in model._flatten_layers()}
    reduced = policies & {"float16", "bfloat16"}
    tolerance = REDUCED_TOLERANCE if reduced else TOLERANCE
    check(expected, actual, tolerance, "The tf_keras model")
