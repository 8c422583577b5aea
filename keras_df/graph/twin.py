"""Copies of layers and operations that share nothing with the original."""

import copy

import numpy as np
from keras import layers


def twin(operation, changes=None):
    """Makes a new operation of the same kind, without its weights.

    Args:
        operation: Layer or operation.
        changes: Dict of config entries that differ.

    Returns:
        A new layer or operation.
    """
    if isinstance(operation, layers.Lambda):
        # Its function is Python code, which Keras refuses to deserialize.
        new = copy.copy(operation)
        new._inbound_nodes, new._outbound_nodes = [], []
        return new
    config = {**operation.get_config(), **(changes or {})}
    return type(operation).from_config(config)


def copy_weights(source, target):
    """Copies the variables of a layer, and of the layers inside it.

    Args:
        source: Layer.
        target: Built layer of the same kind and shapes.
    """
    inner = zip(source._flatten_layers(), target._flatten_layers(), strict=True)
    for old, new in inner:
        store = {}
        old.save_own_variables(store)
        if store:
            new.load_own_variables(
                {name: np.asarray(value) for name, value in store.items()}
            )
