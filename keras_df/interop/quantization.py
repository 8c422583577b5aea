"""quantize_annotate: a `tf_keras` model, annotated so that tfmot takes it."""

import collections

import numpy as np
from keras import tree

from keras_df.interop.conversion import import_tf_keras

# Activations that `tfmot` quantizes.
_ACTIVATIONS = frozenset(
    {"linear", "relu", "swish", "gelu", "softmax", "sigmoid", "tanh"}
)
_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")


def quantize_annotate(model):
    """Annotates a `tf_keras` model for quantization-aware training.

    `tfmot.quantization.keras.quantize_annotate_model` makes of a model with
    any layer that tfmot has no rule for one that cannot be quantized. Here
    such a layer only gets its output quantized, and TensorFlow functions stay
    as they are: slicing and padding inherit the quantization of their input.
    Normalization and Rescaling of images become depthwise 1x1 convolutions,
    which run on integers as one operator.

    Args:
        model: `tf_keras.Model`, such as `to_tf_keras` returns. It is not
            modified, but the new model shares its variables, as with tfmot.

    Returns:
        A `tf_keras.Model` for `tfmot.quantization.keras.quantize_apply`, which
        is to be called within `tfmot.quantization.keras.quantize_scope()`.

    Raises:
        ImportError: If `tf_keras` or tfmot is not installed.
        ValueError: If a layer is called more than once, which tfmot does not
            quantize.

    Example:

    ```python
    annotated = keras_df.interop.quantize_annotate(model)
    with tfmot.quantization.keras.quantize_scope():
        aware = tfmot.quantization.keras.quantize_apply(annotated)
    keras_df.interop.calibrate_ranges(aware, train)
    ```
    """
    tf_keras = import_tf_keras()
    annotator = _Annotator(model)
    annotated = tf_keras.models.clone_model(
        model, clone_function=annotator.annotate
    )
    for layer, weights in annotator.pending:
        layer.set_weights(weights)
    return annotated


class _Annotator:
    def __init__(self, model):
        _check_called_once(model)
        self._layers = import_tf_keras().layers
        self._tfmot = _import_tfmot().quantization.keras
        self._registry = self._tfmot.default_8bit.Default8BitQuantizeRegistry()
        self._consumers = collections.Counter(
            id(source) for x in model.layers for source in _sources(x)
        )
        self.pending = []

    def annotate(self, layer):
        """Returns the layer that takes a layer's place in the new model."""
        if type(layer).__name__ in _FUNCTIONS:
            return layer
        affine = _affine_of_images(layer)
        if affine is not None:
            # With a rule for its kernel, tfmot would train it.
            frozen = self._depthwise(layer, *affine)
            return self._tfmot.quantize_annotate_layer(frozen, _output_config())
        config = None if self._is_known(layer) else _output_config()
        return self._tfmot.quantize_annotate_layer(layer, config)

    def _depthwise(self, layer, scale, offset):
        new = self._layers.DepthwiseConv2D(1, name=layer.name, trainable=False)
        self.pending.append((new, [scale[None, None, :, None], offset]))
        return new

    def _is_known(self, layer):
        """Whether tfmot quantizes a layer by itself."""
        known = (self._layers.SeparableConv1D, self._layers.SeparableConv2D)
        if isinstance(layer, self._layers.BatchNormalization):
            return self._is_folded(layer)
        if not (self._registry.supports(layer) or type(layer) in known):
            return False
        return _activation_name(layer) in _ACTIVATIONS

    def _is_folded(self, layer):
        """Whether a BatchNormalization becomes part of the layer before it."""
        kinds = (
            self._layers.Conv2D,
            self._layers.DepthwiseConv2D,
            self._layers.SeparableConv2D,
            self._layers.Dense,
        )
        (source,) = _sources(layer)
        if type(source) not in kinds or self._consumers[id(source)] > 1:
            return False
        return _activation_name(source) == "linear"


def _activation_name(layer):
    activation = getattr(layer, "activation", None)
    if activation is None:
        return "linear"
    return getattr(activation, "__name__", type(activation).__name__)


def _sources(layer):
    """The layers whose outputs a layer reads in its model."""
    if not layer.inbound_nodes:
        return []
    return tree.flatten(layer.inbound_nodes[0].inbound_layers)


def _check_called_once(model):
    for layer in model.get_config()["layers"]:
        # Those of a Sequential model have no nodes, and are called once.
        calls = len(layer.get("inbound_nodes", ()))
        if calls > 1 and layer["class_name"] not in _FUNCTIONS:
            raise ValueError(
                f"Layer '{layer['name']}' is called {calls} times; tfmot "
                "quantizes layers that are called once. Make a layer for each "
                "call."
            )


def _affine_of_images(layer):
    """Scale and offset per channel that a layer amounts to, None if another.

    Two arrays of shape `(channels,)`.
    """
    layers = import_tf_keras().layers
    shape = getattr(layer, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] is None:
        return None
    if isinstance(layer, layers.Rescaling):
        scale, offset = layer.scale, layer.offset
    elif isinstance(layer, layers.Normalization) and not layer.invert:
        deviation = np.maximum(np.sqrt(layer.variance), 1e-7)
        scale, offset = 1 / deviation, -np.asarray(layer.mean) / deviation
    else:
        return None
    values = [np.asarray(x, "float32") for x in (scale, offset)]
    channels = shape[-1]
    if any(
        x.size > 1 and not x.size == x.shape[-1] == channels for x in values
    ):
        return None
    return [np.broadcast_to(x.ravel(), channels) for x in values]


def _import_tfmot():
    try:
        import tensorflow_model_optimization as tfmot
    except ImportError as error:
        raise ImportError(
            "This needs the package `tensorflow-model-optimization`: "
            "`pip install keras_df[tfmot]`."
        ) from error
    return tfmot


def _output_config():
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (  # noqa: E501
        default_8bit_quantize_configs,
    )

    return default_8bit_quantize_configs.Default8BitOutputQuantizeConfig()
