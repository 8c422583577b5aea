"""The registry: one small rule per type of layer or operation."""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field

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
        pair: For layers that are not stock Keras and can be decomposed: a
            function `(layer, rank, units)` that returns two unbuilt layers.
            Called one after the other they take the layer's place; the
            first writes `rank` channels, the second `units`. Each holds its
            factor in the attribute `attribute`, or in `kernel`; the second
            also takes the layer's other weights, where it has them.
    """

    attribute: str
    inputs: tuple | None
    outputs: tuple
    schemes: dict = field(default_factory=dict)
    reason: str = ""
    area: int = 1
    pair_areas: dict = field(default_factory=dict)
    pair: Callable | None = None


@dataclass(frozen=True)
class Flow:
    """What a rule says of one call of a layer or operation.

    Attributes:
        outputs: List of `Channels`, one per output tensor.
        weights: Dict from the name of a layer's attribute that holds a weight
            to `{axis: ids}`, the axes of the weight that follow channels.
        config: Dict from a key of the layer's or operation's config to a
            function of a `Keep` that returns the key's value after removal,
            a plain Python value.
        kernel: The `Kernel` of the layer, if it has one.
        call: For operations whose call arguments follow channels: a function
            `(keep, operation, *args, **kwargs)` that calls the new operation
            with the arguments after removal.
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


def register_rule(*types):
    """Registers a channel rule for layer types.

    A rule is a function of a `Call` that returns a `Flow`. It applies to
    exactly the types named: a subclass may compute anything, so it needs a
    rule of its own. A rule that raises leaves its layer alone, with the
    error as the reason that `keras_df.inspect` shows.

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
    if is_stock(operation):
        return _OPERATION_RULES.get(kind.__name__)
    return None


def is_stock(operation):
    """Tells whether an operation is part of Keras itself."""
    return type(operation).__module__.startswith("keras.src.")
