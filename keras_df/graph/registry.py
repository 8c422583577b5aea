"""The registry: one small rule per type of layer or operation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np
from keras import tree

from keras_df.graph.channels import Channels
from keras_df.graph.channels import UnitTable

_LAYER_RULES: dict[type, Callable] = {}
_OPERATION_RULES: dict[str, Callable] = {}


@dataclass(frozen=True)
class Kernel:
    """The weight of a layer that reads channels and writes channels.

    Attributes:
        attribute: Name of the layer's attribute that holds the weight.
        inputs: Tuple `(axis, ids)`: the axis of the weight that reads
            channels, and the raw unit ids along it. None if no axis does.
        outputs: Tuple `(axis, ids)` for the channels that the weight writes.
        schemes: Dict from a scheme's number to its `(rows, columns)`, the
            matricizations under which the weight can be decomposed. Empty
            for a weight that cannot be.
        reason: Why the weight cannot be decomposed.
        area: Number of positions at which a call applies the weight.
        pair_areas: Dict from a scheme's number to the numbers of positions
            at which its two factors are applied.
    """

    attribute: str
    inputs: tuple | None
    outputs: tuple
    schemes: dict = field(default_factory=dict)
    reason: str = ""
    area: int = 1
    pair_areas: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Flow:
    """What a rule says of one call of a layer or operation.

    Attributes:
        outputs: List of `Channels`, one per output tensor.
        weights: Dict from the name of a layer's attribute that holds a weight
            to `{axis: ids}`, the axes of the weight that follow channels.
        config: Dict from a key of the layer's config to a function of a
            `Keep` that returns the key's value after removal.
        kernel: The `Kernel` of the layer, if it has one.
        call: For operations whose own arguments follow channels: a function
            of a `Keep` that returns what to call in place of the operation.
        macs: Multiply-accumulates of this call beside those of the kernel, as
            a list of `(MACs per channel, ids)`; ids None for a constant.
        flops: FLOPs of this call beside two per multiply-accumulate, as a
            list of `(FLOPs per channel, ids)`; ids None for a constant.
    """

    outputs: list
    weights: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    kernel: Kernel | None = None
    call: Callable | None = None
    macs: list = field(default_factory=list)
    flops: list = field(default_factory=list)


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

    def freeze(self, reason):
        """Freezes every input and returns a `Flow` with opaque outputs."""
        for tensor in self.inputs:
            self.units.freeze(tensor.ids, reason)
        return Flow(self.opaque(reason))


def positions(shape):
    """Number of elements of a sample of shape `(batch, ...)`."""
    return math.prod(size for size in shape[1:] if size is not None)


class Keep:
    """Which channels stay: resolves raw unit ids against a decision.

    Args:
        units: Integer array that maps each raw id to its unit.
        kept: Boolean array of shape `(units,)`, True for units that stay.
    """

    def __init__(self, units, kept):
        self._stays = np.asarray(kept, bool)[units]

    def mask(self, ids):
        """Returns a boolean array of the shape of `ids`."""
        return self._stays[ids]

    def positions(self, ids):
        """Returns the positions of `ids` that stay, in order."""
        return np.flatnonzero(self._stays[ids])

    def count(self, ids):
        """Returns how many of `ids` stay."""
        return int(self._stays[ids].sum())


def register_rule(*types):
    """Registers a channel rule for layer types.

    A rule is a function of a `Call` that returns a `Flow`. It applies to
    exactly the types named: a subclass may compute anything, so it needs a
    rule of its own.

    Args:
        *types: Classes of `keras.layers.Layer`, or names of `keras.ops`
            operation classes such as `"Pad"`.

    Returns:
        A decorator that returns the rule unchanged.

    Raises:
        TypeError: If a type is neither a class nor a string.

    Example:

    ```python
    @keras_df.graph.register_rule(ChannelScale)
    def channel_scale(call):
        ids = call.read(call.inputs[0], -1)
        return keras_df.graph.Flow(
            [call.output(-1, ids)], weights={"scale": {0: ids}}
        )
    ```
    """
    for kind in types:
        if not isinstance(kind, (type, str)):
            raise TypeError(
                "`register_rule` takes layer classes or names of operation "
                f"classes. Received: {kind!r} (of type {type(kind)})"
            )

    def decorator(rule):
        for kind in types:
            rules = _OPERATION_RULES if isinstance(kind, str) else _LAYER_RULES
            rules[kind] = rule
        return rule

    return decorator


def find_rule(operation):
    """Returns the rule for a layer or operation, or None."""
    kind = type(operation)
    if kind in _LAYER_RULES:
        return _LAYER_RULES[kind]
    if kind.__module__.startswith("keras.src."):
        return _OPERATION_RULES.get(kind.__name__)
    return None
