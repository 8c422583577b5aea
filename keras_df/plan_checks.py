"""Checks of a plan: its numbers, its file, and the model it is for."""

import numpy as np

from keras_df.budgets.cost import RESOURCES
from keras_df.checks import shown


def check_numbers(path, layer):
    """Raises ValueError unless a `LayerPlan` holds integers in order."""
    kept = layer.kept
    if not isinstance(kept, tuple):
        raise ValueError(
            f"Layer '{path}' of the plan must list the channels it keeps. "
            f"Received: kept={shown(kept)}"
        )
    numbers = [layer.channels, layer.max_rank, layer.scheme, *kept]
    numbers += [] if layer.rank is None else [layer.rank]
    wrong = [number for number in numbers if type(number) is not int]
    if wrong:
        raise ValueError(
            f"Layer '{path}' of the plan has a non-integer value: "
            f"{shown(wrong[0])}"
        )
    bounded = (-1, *kept, layer.channels)
    for before, after in zip(bounded, bounded[1:]):
        if before >= after:
            raise ValueError(
                f"Layer '{path}' of the plan keeps channels that are not an "
                f"ascending list within 0 and {layer.channels - 1}: {after} "
                f"comes after {before}."
            )


def check_layers(planned, kernels):
    """Raises ValueError unless layers and channels are those of a model."""
    unknown = [path for path in planned if path not in kernels]
    missing = [path for path in kernels if path not in planned]
    if unknown or missing:
        raise ValueError(
            "The plan was made for another model: it names layers that the "
            f"model lacks ({', '.join(unknown) or 'none'}) and lacks layers "
            f"that the model has ({', '.join(missing) or 'none'})."
        )
    for path, layer in planned.items():
        channels = len(kernels[path].kernel.outputs[1])
        if layer.channels != channels:
            raise ValueError(
                f"The plan was made for another model: layer '{path}' has "
                f"{channels} output channels, the plan has {layer.channels}."
            )


def check_follows(first, second):
    """Raises ValueError unless a plan's layers are what another leaves."""
    pairs = [path for path, layer in first.items() if layer.rank is not None]
    if pairs:
        raise ValueError(
            f"The first plan decomposes layer '{pairs[0]}', so no second plan "
            "can follow it. Make it with "
            "`keras_df.Constraints(decompose=False)`."
        )
    left = {path: len(layer.kept) for path, layer in first.items()}
    planned = {path: layer.channels for path, layer in second.items()}
    for path in {**left, **planned}:
        if left.get(path) != planned.get(path):
            raise ValueError(
                "The second plan was made for another model than the first "
                f"leads to: layer '{path}' has "
                f"{left.get(path, 'no')} channels after the first, and "
                f"{planned.get(path, 'no')} in the second."
            )


def check_channels(path, layer, graph, keep):
    """Raises ValueError unless what a layer loses may go, and all of it."""
    ids = graph.kernels()[path].kernel.outputs[1]
    coupled = keep.positions(ids)
    if tuple(coupled.tolist()) != layer.kept:
        lost = sorted(set(layer.kept) - set(coupled.tolist()))
        raise ValueError(
            f"The plan keeps channels {lost[:5]} of layer '{path}', but "
            "removes channels of other layers that they are added to. They "
            "have to go together."
        )
    for unit in np.unique(graph.units[ids[~keep.mask(ids)]]):
        if int(unit) in graph.reasons:
            raise ValueError(
                f"The plan removes a channel of layer '{path}' that has to "
                f"stay: {graph.reasons[int(unit)]}."
            )


def check_rank(path, layer, node, keep):
    """Raises ValueError unless a layer may have the rank that is planned."""
    kernel = node.kernel
    if layer.scheme not in kernel.schemes:
        raise ValueError(
            f"The plan decomposes layer '{path}' by Scheme {layer.scheme}, "
            f"which it does not have. {kernel.reason}"
        )
    shape = list(getattr(node.operation, kernel.attribute).shape)
    for axis, ids in (kernel.inputs, kernel.outputs):
        shape[axis] = keep.count(ids)
    rows, columns = kernel.schemes[layer.scheme]
    limit = min(
        int(np.prod([shape[axis] for axis in axes])) for axes in (rows, columns)
    )
    if not 1 <= layer.rank <= limit:
        raise ValueError(
            f"The plan gives layer '{path}' the rank {layer.rank}; it must be "
            f"between 1 and {limit}."
        )


def entry(config, key, kind):
    """An entry of a plan's config. Raises ValueError if it is not a `kind`."""
    value = config.get(key)
    if not isinstance(value, kind):
        raise ValueError(
            f"The plan is damaged: its entry '{key}' is "
            f"{shown(value) if key in config else 'missing'}."
        )
    return value


def costs_entry(config):
    """The costs in a plan's config. Raises ValueError if one is wrong."""
    pairs = entry(config, "costs", dict)
    for name in [*RESOURCES, *pairs]:
        pair = pairs.get(name)
        numbers = pair if isinstance(pair, (list, tuple)) else ()
        if len(numbers) != 2 or not all(
            type(x) is int and x >= 0 for x in numbers
        ):
            raise ValueError(
                "The plan is damaged: its entry 'costs' must have the "
                f"integers before and after of '{name}'. Received: "
                f"{shown(pair)}"
            )
    return {name: tuple(pair) for name, pair in pairs.items()}


def texts_entry(config, key):
    """A list of strings in a plan's config. Raises ValueError otherwise."""
    texts = list(entry(config, key, (list, tuple)))
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(
                f"The plan is damaged: its entry '{key}' holds {shown(text)}, "
                "which is no text."
            )
    return texts
