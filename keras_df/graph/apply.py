"""Applies rules to calls; what they do not fit is frozen, never fatal."""

import dataclasses
import math

from keras_df.graph.registry import find_rule
from keras_df.graph.registry import is_stock

NO_PAIR = "its rule names no `pair` of layers for a low-rank kernel"
MORE_WEIGHTS = "it has further weights, which a low-rank pair has no place for"


def apply_rule(call):
    """Returns the `Flow` of a `Call`, by the rule for its operation.

    Args:
        call: `Call`.
    """
    operation = call.operation
    rule = find_rule(operation)
    if rule is None:
        return call.freeze(
            f"`{operation.name}` is a {type(operation).__name__}, for which "
            "keras_df has no rule (see `keras_df.graph.register_rule`)"
        )
    reason = _changed_weights(operation)
    try:
        flow = rule(call)
        if reason:
            return _left_alone(call, flow, f"`{operation.name}` {reason}")
        _check(call, flow)
    except Exception as error:
        return call.freeze(
            f"the rule for `{operation.name}` (a {type(operation).__name__}) "
            f"failed: {type(error).__name__}: {error}"
        )
    return _without_unmade_pairs(operation, flow)


def _changed_weights(layer):
    """Why the weights of a layer are not those that its rule expects."""
    if getattr(layer, "lora_enabled", False):
        return "has LoRA weights; merge them first"
    if getattr(layer, "quantization_mode", None):
        return "is quantized"
    return None


def _left_alone(call, flow, reason):
    """Freezes a call that costs what its rule says."""
    for tensor in flow.outputs:
        call.units.freeze(tensor.ids, reason)
    macs = macs_of_flow(call.operation, flow)
    return call.freeze(reason, macs, total(flow.flops))


def macs_of_flow(operation, flow):
    """Counts the multiply-accumulates of a call, its kernel's among them."""
    macs = total(flow.macs)
    if flow.kernel is not None:
        kernel = getattr(operation, flow.kernel.attribute)
        macs += flow.kernel.area * math.prod(kernel.shape)
    return macs


def total(amounts):
    """Sums a list of `(amount per channel, ids)`."""
    return sum(cost * (1 if ids is None else len(ids)) for cost, ids in amounts)


def _check(call, flow):
    """Raises ValueError if what a rule says does not fit the layer."""
    if len(flow.outputs) != len(call.specs):
        raise ValueError(
            f"{len(call.specs)} outputs, but {len(flow.outputs)} `Channels`"
        )
    weights = {id(x) for x in getattr(call.operation, "weights", [])}
    for name, axes in flow.weights.items():
        weight = getattr(call.operation, name)
        if id(weight) not in weights:
            raise ValueError(f"'{name}' is no weight of the layer")
        for axis, ids in axes.items():
            if weight.shape[axis] != len(ids):
                raise ValueError(
                    f"weight '{name}' of shape {tuple(weight.shape)} has "
                    f"{len(ids)} channels on axis {axis}"
                )


def _without_unmade_pairs(layer, flow):
    """Keeps a kernel dense whose pair could not stand in for the layer."""
    kernel = flow.kernel
    if kernel is None or not kernel.schemes:
        return flow
    reason = ""
    if not is_stock(layer) and kernel.pair is None:
        reason = NO_PAIR
    elif len(layer.weights) > len(flow.weights):
        reason = MORE_WEIGHTS
    if not reason:
        return flow
    kernel = dataclasses.replace(kernel, schemes={}, reason=reason)
    return dataclasses.replace(flow, kernel=kernel)
