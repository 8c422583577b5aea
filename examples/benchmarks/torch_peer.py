"""Torch-Pruning, the package, as a peer: the same weights, pruned in PyTorch.

Needs `pip install torch torch-pruning`.
"""

import keras
import numpy as np
import torch
import torch_pruning
from keras.src.ops.numpy import GetItem
from keras.src.ops.numpy import Pad
from torch_twin import TorchTwin

import keras_df as kdf
from keras_df.budgets.allocation import Selection
from keras_df.budgets.model_cost import ModelCost
from keras_df.graph import analyze
from keras_df.graph.walk import rebuild

STEPS = 400
TOLERANCE = 1e-3


def group_magnitude(model, budget, global_pruning=False):
    """Prunes by `GroupMagnitudeImportance`, in small steps, to a budget.

    Args:
        model: A built Keras image classifier that `TorchTwin` can copy.
        budget: `keras_df.MACs`.
        global_pruning: Whether the filters of all layers are ranked together
            instead of removing the same share of every layer, the package's
            default.

    Returns:
        The pruned network as a Keras model.

    Raises:
        RuntimeError: If PyTorch and Keras disagree on what it computes.

    Reference: Fang et al., DepGraph: Towards any structural pruning, 2023.
    """
    limit = budget.limit(kdf.count(model).macs)
    convolutional = _with_convolutions(model)
    twin = TorchTwin(convolutional)
    _, *size, channels = model.input_shape
    image = 255 * torch.rand(2, channels, *size)
    _check(twin, model, image)
    names = {
        module: name
        for name, layer in twin.layers.items()
        for module in layer.modules()
        if isinstance(module, torch.nn.Conv2d)
    }
    kept = {name: np.arange(x.out_channels) for x, name in names.items()}
    pruner = torch_pruning.pruner.BasePruner(
        twin,
        image,
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        global_pruning=global_pruning,
        pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[_classifier(twin)],
    )
    graph = analyze(convolutional)
    cost = ModelCost(graph, {})
    groups = _groups(pruner)
    while cost.count_selection(_selection(graph, kept))["macs"] > limit:
        group = next(groups)
        _note(group, pruner, names, kept)
        group.prune()
    plan = kdf.CompressionPlan.from_selection(graph, _selection(graph, kept))
    small = kdf.compress(convolutional, plan)
    _check(twin, small, image)
    return small


def _with_convolutions(model):
    """The same network with convolutions for shortcuts that pad channels.

    Torch-Pruning knows no index of a channel that padding has moved.
    """

    def replace(path, operation):
        if isinstance(operation, GetItem):
            return lambda tensor, index: tensor
        if isinstance(operation, Pad):
            return _shortcut(operation)
        return operation

    return rebuild(model, replace)


def _shortcut(pad):
    """A convolution: every second position, zeros for channels around."""
    before, after = pad.pad_width[-1]

    def call(tensor, **kwargs):
        channels = tensor.shape[-1]
        convolution = keras.layers.Conv2D(
            before + channels + after,
            1,
            strides=2,
            use_bias=False,
            name=f"{pad.name}_convolution",
        )
        output = convolution(tensor)
        kernel = np.eye(channels, output.shape[-1], before)
        convolution.kernel.assign(kernel[None, None])
        return output

    return call


def _classifier(twin):
    *_, last = (x for x in twin.modules() if isinstance(x, torch.nn.Linear))
    return last


def _groups(pruner):
    """Yields what to prune next, step by step."""
    for _ in range(STEPS):
        yield from pruner.step(interactive=True)


def _note(group, pruner, names, kept):
    """Notes in `kept` which filters a group leaves."""
    for dependency, gone in group:
        name = names.get(dependency.target.module)
        if name and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
            kept[name] = np.delete(kept[name], gone)


def _selection(graph, kept):
    return Selection(graph.units_kept(kept), {}, {})


def _check(twin, model, image):
    """Checks that PyTorch and Keras compute the same of an image."""
    with torch.no_grad():
        ours = model(image.permute(0, 2, 3, 1).numpy(), training=False)
        gap = np.abs(keras.ops.convert_to_numpy(ours) - twin(image).numpy())
    if gap.max() > TOLERANCE:
        raise RuntimeError(
            f"PyTorch and Keras differ by {gap.max():.1e} on model "
            f"'{model.name}'."
        )
