"""Copies of layers and operations that share nothing with the original."""

import functools
import inspect
import tempfile
import types
import warnings

import keras
import numpy as np
from keras import layers

from keras_df.graph.registry import find_rule
from keras_df.graph.registry import is_stock

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, functools.partial)
_KERAS_OBJECTS = (
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
)


def twin(operation, changes=None, is_resized=False):
    """Makes a new operation of the same kind, without its weights.

    Functions, and objects of classes that Keras does not know, are taken
    over as they are, so nothing has to be registered with Keras.

    Args:
        operation: Layer or operation.
        changes: Dict of config entries that differ.
        is_resized: Whether its weights get other shapes. With changes, they
            may in any case.

    Returns:
        A new layer or operation. A layer that Keras cannot copy and that has
        no changes is returned itself, with a warning.

    Raises:
        ValueError: If a layer that differs cannot be copied.
    """
    changes = changes or {}
    if isinstance(operation, layers.Lambda):
        return _twin_of_lambda(operation)
    if not isinstance(operation, keras.Layer):
        return _twin_of_function(operation, changes)
    try:
        with scope_of(operation):
            describe = resizable_config if is_resized or changes else config_of
            config = {**describe(operation), **changes}
            new = type(operation).from_config(config)
            if find_rule(operation) is None and not is_stock(operation):
                _check_alike(operation, new)
            return new
    except Exception as error:
        message = (
            f"Layer '{operation.name}' (of type {type(operation).__name__}) "
            f"cannot be copied from its config: {error}"
        )
        if changes:
            raise ValueError(message) from error
        warnings.warn(
            f"{message}. The new model shares it with the original; implement "
            "`get_config` and `from_config` to have it copied.",
            stacklevel=2,
        )
        return operation


def _check_alike(layer, new):
    """Raises ValueError if a layer lost parts because its config is lossy.

    Parts can be compared only once both layers have built theirs.
    """
    builds = not getattr(layer.build, "_is_default", False)
    config = layer.get_build_config() if builds else None
    if not config:
        return
    new.build_from_config(config)
    parts, found = (
        [type(part).__name__ for part in x._flatten_layers(include_self=False)]
        for x in (layer, new)
    )
    if parts != found:
        raise ValueError(f"it has {parts} inside, its copy has {found}")


def _twin_of_lambda(layer):
    """Its function is Python code, which Keras refuses to deserialize."""
    return type(layer)(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=dict(layer.arguments),
        name=layer.name,
        trainable=layer.trainable,
        dtype=layer.dtype_policy,
    )


def _twin_of_function(operation, changes):
    """An operation of `keras.ops` has no state beside its arguments."""
    try:
        config = operation.get_config()
        return type(operation).from_config({**config, **changes})
    except (NotImplementedError, TypeError):
        # There are arrays or functions among its arguments.
        new = _shallow_copy(operation)
        vars(new).update(_inbound_nodes=[], _outbound_nodes=[], **changes)
        return new


def config_of(layer):
    """Returns the config of a layer, Python code in it left as it is.

    That holds for what a stock layer takes, such as its activation. What
    other classes add to a config is theirs to write and to read.
    """
    known = _stock_arguments(type(layer))
    live = {k: x for k, x in vars(layer).items() if k in known and _is_code(x)}
    if not live:
        return layer.get_config()
    probe = _shallow_copy(layer)
    vars(probe).update({key: _placeholder(x) for key, x in live.items()})
    config = probe.get_config()
    return config | {key: x for key, x in live.items() if key in config}


def resizable_config(layer):
    """Returns the config of a layer that is to have weights of other shapes.

    An initializer that holds an array could not fill them; it gives zeros.
    """
    config = config_of(layer)
    for key in config:
        initializer = getattr(layer, key, None)
        if key.endswith("_initializer") and np.ndim(
            getattr(initializer, "value", 0)
        ):
            config[key] = "zeros"
    return config


def _stock_arguments(kind):
    """Names of the arguments of the stock layer that a class extends."""
    bases = [b for b in kind.__mro__ if b.__module__.startswith("keras.src.")]
    return inspect.signature(bases[0].__init__).parameters


def _shallow_copy(operation):
    """`copy.copy` would write the operation to a file and read it back."""
    new = object.__new__(type(operation))
    vars(new).update(vars(operation))
    return new


def _placeholder(value):
    """Something that Keras can serialize in the place of Python code."""
    return keras.activations.linear if isinstance(value, _FUNCTIONS) else None


def _is_code(value):
    if isinstance(value, _FUNCTIONS):
        return not (value.__module__ or "").startswith("keras.src.")
    known = type(value).__module__.startswith("keras.src.")
    return isinstance(value, _KERAS_OBJECTS) and not known


def scope_of(layer):
    """A scope that knows what a layer's config names: what is inside it."""
    known = {}
    for inner in layer._flatten_layers():
        known[type(inner).__name__] = type(inner)
        for value in vars(inner).values():
            if isinstance(value, types.FunctionType):
                known.setdefault(value.__name__, value)
    foreign = {name: x for name, x in known.items() if _is_foreign(x)}
    return keras.saving.custom_object_scope(foreign)


def _is_foreign(value):
    return not (value.__module__ or "").startswith("keras.")


def copy_weights(source, target):
    """Copies the variables of a layer, and of the layers inside it.

    Args:
        source: Layer.
        target: Built layer of the same kind and shapes.
    """
    if source is target:
        return
    for old, new in layers_within(source, target):
        store = {}
        old.save_own_variables(store)
        if store:
            new.load_own_variables(
                {name: np.asarray(value) for name, value in store.items()}
            )
        if hasattr(old, "save_assets"):
            _copy_assets(old, new)


def layers_within(source, target):
    """Pairs a layer and its twin, and the layers inside them, all built."""
    pairs = zip(source._flatten_layers(), target._flatten_layers(), strict=True)
    for old, new in pairs:
        # An activation that is a layer is built when it first runs.
        if old.built and not new.built:
            new.build_from_config(old.get_build_config())
        # The config of a layer does not say which layers inside are frozen.
        if new.trainable != old.trainable:
            new.trainable = old.trainable
        yield old, new


def _copy_assets(source, target):
    """Copies what a layer keeps in files, such as a vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        source.save_assets(folder)
        target.load_assets(folder)
