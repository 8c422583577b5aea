"""Call: one call of a layer or operation, as its rule sees it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import KerasTensor
from keras import tree

from keras_df.graph.channels import Channels
from keras_df.graph.channels import UnitTable
from keras_df.graph.registry import Flow


@dataclass(frozen=True)
class Call:
    """One call of an operation, as a rule sees it.

    Attributes:
        operation: The layer or operation that is called.
        args: Tuple of positional arguments, tensors replaced by `Channels`.
        kwargs: Dict of keyword arguments, tensors replaced by `Channels`.
        specs: List of `KerasTensor`s, the symbolic outputs.
        units: The `UnitTable` of the analysis.
    """

    operation: Any
    args: tuple
    kwargs: dict
    specs: list
    units: UnitTable

    @property
    def inputs(self):
        """List of `Channels`, the tensors among the arguments."""
        flat = tree.flatten((self.args, self.kwargs))
        return [x for x in flat if isinstance(x, Channels)]

    @property
    def constants(self):
        """List of the arrays among the arguments, as NumPy arrays.

        A list of tensors may hold arrays too.
        """
        values = [*self.args, *self.kwargs.values()]
        for value in [x for x in values if isinstance(x, (list, tuple))]:
            if any(isinstance(x, Channels) for x in value):
                values += value
        return [np.asarray(x) for x in values if is_constant(x)]

    def read(self, tensor, axis):
        """Returns the unit ids of a tensor along an axis.

        A tensor whose channels lie on another axis is frozen first.
        """
        axis = axis % len(tensor.shape)
        if tensor.axis == axis:
            return tensor.ids
        reason = tensor.reason
        if tensor.axis is not None:
            reason = f"`{self.operation.name}` reads it along another axis"
            self.units.freeze(tensor.ids, reason)
        return self.units.frozen(tensor.shape[axis], reason)

    def output(self, axis, ids, index=0):
        """Returns an output with channels `ids` along `axis`."""
        spec = self.specs[index]
        axis = axis % len(spec.shape)
        return Channels(tuple(spec.shape), axis, ids, dtype=spec.dtype)

    def each(self, amount, index=0, channels=None):
        """Spreads an amount per output element over the output's channels.

        Args:
            amount: Number per element of the output (MACs or FLOPs).
            index: Which output.
            channels: The `Channels` of that output; opaque if None.

        Returns:
            List with one `(amount per channel, ids)`, empty for amount 0.
        """
        if not amount:
            return []
        size = positions(self.specs[index].shape)
        if channels is None or channels.axis is None:
            return [(amount * size, None)]
        return [(amount * size / len(channels.ids), channels.ids)]

    def opaque(self, reason):
        """Returns outputs of which nothing can be removed."""
        return [
            Channels(tuple(spec.shape), reason=reason, dtype=spec.dtype)
            for spec in self.specs
        ]

    def freeze(self, reason, macs=0, flops=0):
        """Freezes every input and returns a `Flow` with opaque outputs.

        Args:
            reason: Why nothing can be removed here.
            macs: Multiply-accumulates of the call.
            flops: FLOPs of the call beside two per multiply-accumulate.
        """
        for tensor in self.inputs:
            self.units.freeze(tensor.ids, reason)
        return Flow(
            self.opaque(reason),
            macs=[(macs, None)] if macs else [],
            flops=[(flops, None)] if flops else [],
        )

    def pass_on(self):
        """The `Flow` of a call whose opaque input stays opaque, untouched."""
        return Flow(self.opaque(self.inputs[0].reason))


def is_constant(value):
    """Tells whether an argument is an array, or a list of numbers."""
    if isinstance(value, (Channels, KerasTensor)) or not tree.flatten(value):
        return False
    if isinstance(value, (list, tuple)):
        return all(isinstance(x, (int, float)) for x in tree.flatten(value))
    return hasattr(value, "shape")


def positions(shape):
    """Number of elements of a sample of shape `(batch, ...)`."""
    return math.prod(size for size in shape[1:] if size is not None)
