"""CompressibleLayer: a frozen layer that runs with a relaxed kernel."""

import keras
from keras import ops


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
        self._relaxed = None
        self.moment = None
        if view.moment_size is not None:
            self.moment = self.add_weight(
                shape=(view.moment_size, view.moment_size),
                initializer="identity",
                trainable=False,
                name="moment",
                dtype="float32",
            )

    @property
    def calibrated_layer(self):
        """The layer that calibration runs and measures."""
        return self.layer

    @property
    def kernel(self):
        """The layer's frozen kernel, a float32 tensor."""
        return ops.cast(self._variable.value, "float32")

    @property
    def moment_array(self):
        """The second moment of the layer's inputs, an array or None."""
        if self.moment is None:
            return None
        return ops.convert_to_numpy(self.moment)

    @property
    def _variable(self):
        return getattr(self.layer, self.view.attribute)

    def use(self, kernel):
        """Sets the kernel that the next calls run with; None to forget it."""
        self._relaxed = kernel

    def call(self, inputs, **kwargs):
        if self._relaxed is None:
            return self.layer(inputs, **kwargs)
        kernel = self._variable
        # A stateless scope hides the one around it, so it names every value.
        values = [(v, v.value) for v in self.layer.variables if v is not kernel]
        values.append((kernel, self._relaxed))
        with keras.StatelessScope(state_mapping=values):
            return self.layer(inputs, **kwargs)
