"""Shapes without unknown sizes, for an analysis to count with."""

import dataclasses

import keras
from keras import tree

from keras_df.graph.channels import INPUT
from keras_df.graph.channels import Channels

UNKNOWN_SIZE = 224
"""The size that stands in for an unknown (None) dimension of an input."""

LARGER = (1024, 16384)
"""What is tried where that is too small for a model, such as one of audio."""

MOST = 2**24
"""Positions of an input at most: a flattened one has an id for each."""


def sizes_to_try(inputs):
    """Sizes that may stand in for the unknown ones, the usual one first.

    Args:
        inputs: List of the symbolic inputs of a model.
    """
    unknown = max((x.shape[1:].count(None) for x in inputs), default=0)
    return [UNKNOWN_SIZE, *(x for x in LARGER if x**unknown <= MOST)]


class Shapes:
    """Infers shapes, with a size in the place of unknown ones.

    Args:
        size: The size.

    Attributes:
        fit: Whether all operations so far take the sizes that follow from it.
    """

    def __init__(self, size):
        self._size = size
        self.fit = True

    def read(self, tensor):
        """The `Channels` of an input of the model."""
        shape = self._assumed(tensor.shape)
        return Channels(shape, reason=INPUT, dtype=tensor.dtype)

    def outputs(self, operation, args, kwargs):
        """The symbolic outputs of a call, with every size but the batch's."""
        args, kwargs = tree.map_structure(_spec, (args, kwargs))
        recorded = _recorded(operation)
        try:
            specs = operation.compute_output_spec(*args, **kwargs)
        except Exception:
            # The size that stands in for an unknown one does not always fit.
            if recorded is None:
                raise
            specs = recorded
            if any(None in x.shape[1:] for x in recorded):
                self.fit = False
        flat = tree.flatten(specs)
        if recorded is None or len(recorded) != len(flat):
            recorded = flat
        flat = [self._sized(*pair) for pair in zip(flat, recorded)]
        return tree.pack_sequence_as(specs, flat)

    def _sized(self, spec, recorded):
        """Fills in sizes that shape inference lost."""
        shape = spec.shape
        if None in shape[1:] and len(recorded.shape) == len(shape):
            pairs = zip(shape, recorded.shape)
            shape = [b if a is None else a for a, b in pairs]
        return keras.KerasTensor(self._assumed(shape), dtype=spec.dtype)

    def _assumed(self, shape):
        """A shape without unknown sizes, but for the batch."""
        sizes = [self._size if x is None else x for x in shape]
        return (None, *sizes[1:]) if sizes else ()


def declared(tensor, own):
    """What a nested model reads, with the sizes that its own input declares.

    Args:
        tensor: What the model is called with: `Channels`, or a constant.
        own: Its symbolic input.
    """
    if not isinstance(tensor, Channels) or len(own.shape) != len(tensor.shape):
        return tensor
    pairs = zip(tensor.shape[1:], own.shape[1:])
    shape = (None, *(a if b is None else b for a, b in pairs))
    axis = tensor.axis
    if axis is not None and shape[axis] != tensor.shape[axis]:
        return tensor
    return dataclasses.replace(tensor, shape=shape)


def _spec(value):
    if isinstance(value, Channels):
        return keras.KerasTensor(value.shape, dtype=value.dtype)
    return value


def _recorded(operation):
    """The outputs of an operation when its graph was made."""
    nodes = operation._inbound_nodes
    return list(nodes[0].outputs) if nodes else None
