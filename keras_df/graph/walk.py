"""The one graph walk that analysis, search, calibration and surgery share."""

import keras
from keras import tree
from keras.src.models.functional import Functional

from keras_df.checks import shown


def is_graph(operation):
    """Tells whether an operation is a model that does what its graph says.

    A model that overrides `call`, or has no graph yet, is not.
    """
    if isinstance(operation, keras.Sequential):
        built = operation._functional is not None
        return built and type(operation).call is keras.Sequential.call
    if isinstance(operation, Functional):
        return type(operation).call is Functional.call
    return False


def graph_of(model):
    """Returns the Functional graph of a Functional or Sequential model.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is subclassed or not built.
    """
    if is_graph(model):
        return getattr(model, "_functional", None) or model
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Expected a `keras.Model`; `keras.models.load_model` reads one "
            f"from a file. Received: {shown(model)}"
        )
    if isinstance(model, keras.Sequential) and model._functional is None:
        raise ValueError(
            f"Sequential model '{model.name}' is not built, so its layers "
            "have no weights. Add a `keras.Input` or call "
            "`model.build(input_shape)` first."
        )
    raise ValueError(
        f"Model '{model.name}' is a subclassed model (of type {type(model)}): "
        "it has no graph to analyse. Only Functional and Sequential models "
        "are supported; rebuild it with the Functional API, as "
        "`keras.Model(inputs, outputs)`."
    )


def walk(model, inputs, visit, path=()):
    """Runs a model's graph, calling `visit` in place of each operation.

    The values that flow may be anything that `visit` accepts and returns.

    Args:
        model: A built Functional or Sequential model.
        inputs: Flat list of values, one per input of the model.
        visit: Function `visit(path, operation, *args, **kwargs)`; `path` is
            the tuple of names that leads to the operation. An operation may
            be a nested model: `visit` may enter it with `walk_nested`.
        path: Tuple of names that leads to `model`.

    Returns:
        The value of the model's output, in the model's output structure.
    """

    def call(operation, *args, **kwargs):
        return visit((*path, operation.name), operation, *args, **kwargs)

    return graph_of(model)._run_through_graph(inputs, lambda op: op, call)


def walk_nested(path, model, visit, args, kwargs):
    """Enters a nested model from the `visit` of its parent's walk."""
    return walk(model, read_by_nested(model, args, kwargs), visit, path)


def read_by_nested(model, args, kwargs):
    """What a nested model is called with, in the order of its inputs."""
    struct = args[0] if args else kwargs["inputs"]
    graph = graph_of(model)
    if isinstance(struct, dict) and not isinstance(graph.input, dict):
        names = [tensor.name for tensor in graph.inputs]
        if set(names) <= set(struct):  # So does Keras, and never by order.
            return [struct[name] for name in names]
    return tree.flatten(struct)


def rebuild(model, replace):
    """Rebuilds a model's graph with other operations.

    Nested models stay nested, and shared operations stay shared.

    Args:
        model: A built Functional or Sequential model. It is not modified.
        replace: Function `replace(path, operation)` that returns what to call
                instead of an operation: a layer, or any function of tensors.

    Returns:
        A `keras.Model` of the same name.
    """
    inputs = tree.map_structure(_input_like, graph_of(model).input)
    return _rebuild(model, inputs, replace, {}, ())


def _rebuild(model, inputs, replace, cache, path):
    def visit(path, operation, *args, **kwargs):
        key = id(operation)
        if key not in cache and is_graph(operation):
            inner = _inputs_of_nested(operation, args, kwargs)
            cache[key] = _rebuild(operation, inner, replace, cache, path)
        elif key not in cache:
            cache[key] = replace(path, operation)
        return cache[key](*args, **kwargs)

    outputs = walk(model, tree.flatten(inputs), visit, path)
    rebuilt = keras.Model(inputs, outputs, name=model.name)
    if not model.trainable:
        rebuilt.trainable = False
    return rebuilt


def _inputs_of_nested(model, args, kwargs):
    """Inputs for a nested model: known sizes are those of its first call."""
    graph = graph_of(model)
    inputs = [
        _input_like(own, _known_sizes(own.shape, given.shape))
        for own, given in zip(graph.inputs, read_by_nested(model, args, kwargs))
    ]
    return tree.pack_sequence_as(graph.input, inputs)


def _known_sizes(own, given):
    if len(own) != len(given):  # Keras adds or drops an axis of size 1.
        return own
    return tuple(a if None in (a, b) else b for a, b in zip(own, given))


def _input_like(tensor, shape=None):
    layer = tensor._keras_history.operation
    return keras.Input(
        batch_shape=shape or tensor.shape,
        dtype=tensor.dtype,
        name=tensor.name,
        sparse=tensor.sparse,
        optional=getattr(layer, "optional", False),
    )
