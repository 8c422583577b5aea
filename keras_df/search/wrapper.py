"""CompressibleLayer: a frozen layer that runs with a relaxed kernel."""

import keras
import numpy as np
from keras import ops

from keras_df.search.factors import Metric
from keras_df.search.replicas import add_state


class CompressibleLayer(keras.layers.Wrapper):
    """Runs a layer with the relaxed kernel of the paper's Eqs. 8 to 11.

    The layer's own weights stay as they are.

    Args:
        layer: The layer to wrap.
        view: `KernelView`, how the layer's kernel follows the units.
    """

    def __init__(self, layer, view, **kwargs):
        super().__init__(
            layer, name=layer.name, dtype="float32", autocast=False, **kwargs
        )
        self.view = view
        self.supports_masking = layer.supports_masking
        # What the layer adds to the loss itself is lost in `call`'s scope.
        self.activity_regularizer = layer.activity_regularizer
        self._relaxed = None
        self._scale = None
        if np.ndim(view.scale):
            # A search that is loaded starts from a model without weights.
            self._scale = add_state(self, "scale", view.scale.shape, "ones")
            self._scale.assign(view.scale)
        self.moment = self._square("moment", view.moment_size)
        self.mixing = self._square("mixing", view.mixing_size)

    def _square(self, name, size):
        if size is None:
            return None
        return add_state(self, name, (size, size), "identity")

    @property
    def calibrated_layer(self):
        """The layer that calibration runs and measures."""
        return self.layer

    @property
    def kernel(self):
        """The layer's frozen kernel, a float32 tensor."""
        return ops.cast(self._variable.value, "float32")

    @property
    def scale(self):
        """How much each output counts, a tensor, or 1 for all alike."""
        return np.float32(1.0) if self._scale is None else self._scale.value

    @property
    def metric(self):
        """The `Metric` that the kernel is decomposed in."""
        moment, mixing = (
            None if x is None else ops.convert_to_numpy(x)
            for x in (self.moment, self.mixing)
        )
        return Metric(moment, ops.convert_to_numpy(self.scale), mixing)

    @property
    def _variable(self):
        return getattr(self.layer, self.view.attribute)

    @property
    def takes_pairs(self):
        """Whether `use` takes two matrices of which the kernel is the product.

        A Dense layer may read few vectors. To multiply each of them twice is
        then less than to multiply out the kernel.
        """
        return type(self.layer) is keras.layers.Dense

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)

    def use(self, kernel):
        """Sets the kernel that the next calls run with; None to forget it."""
        self._relaxed = kernel

    def call(self, inputs, **kwargs):
        if self._relaxed is None:
            return self.layer(inputs, **kwargs)
        kernel, relaxed = self._variable, self._relaxed
        if isinstance(relaxed, tuple):
            if len(inputs.shape) == 2:
                return self._call_as_pair(inputs)
            relaxed = ops.matmul(*relaxed)
        # A stateless scope hides the one around it, so it names every value.
        values = [(v, v.value) for v in self.layer.variables if v is not kernel]
        values.append((kernel, relaxed))
        with keras.StatelessScope(state_mapping=values):
            return self.layer(inputs, **kwargs)

    def _call_as_pair(self, inputs):
        layer, dtype = self.layer, self.layer.compute_dtype
        x = ops.cast(inputs, dtype)
        for matrix in self._relaxed:
            x = ops.matmul(x, ops.cast(matrix, dtype))
        if layer.bias is not None:
            x = ops.add(x, ops.cast(layer.bias.value, dtype))
        return x if layer.activation is None else layer.activation(x)
