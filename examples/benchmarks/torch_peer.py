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
    model = _with_convolutions(model)
    twin = TorchTwin(model)
    _, *size, channels = model.input_shape
    image = torch.rand(2, channels, *size)
    kept = {
        name: np.arange(module.out_channels)
        for name, module in twin.layers.items()
        if isinstance(module, torch.nn.Conv2d)
    }
    pruner = torch_pruning.pruner.BasePruner(
        twin,
        image,
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        global_pruning=global_pruning,
        pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[_classifier(twin)],
    )
    names = {twin.layers[name]: name for name in kept}
    graph = analyze(model)
    plan = _plan(graph, kept)
    groups = _groups(pruner)
    while plan.costs["macs"][1] > limit:
        group = next(groups)
        _note(group, pruner, names, kept)
        group.prune()
        plan = _plan(graph, kept)
    small = kdf.compress(model, plan)
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
            return _Shortcut(operation)
        return operation

    return rebuild(model, replace)


class _Shortcut:
    """Every second position, and channels of zeros on both sides."""

    def __init__(self, pad):
        self.name = pad.name
        self.before, self.after = pad.pad_width[-1]

    def __call__(self, tensor, **kwargs):
        channels = tensor.shape[-1]
        convolution = keras.layers.Conv2D(
            self.before + channels + self.after,
            1,
            strides=2,
            use_bias=False,
            name=f"{self.name}_convolution",
        )
        output = convolution(tensor)
        kernel = np.eye(channels, output.shape[-1], self.before)
        convolution.kernel.assign(kernel[None, None])
        return output


def _classifier(twin):
    *_, last = (
        x for x in twin.layers.values() if isinstance(x, torch.nn.Linear)
    )
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


def _plan(graph, kept):
    units = np.ones(graph.unit_count, bool)
    for path, node in graph.kernels().items():
        if path in kept:
            ids = node.kernel.outputs[1]
            units[graph.units[np.delete(ids, kept[path])]] = False
    return kdf.CompressionPlan.from_selection(graph, Selection(units, {}, {}))


def _check(twin, model, image):
    """Checks that the pruned twin computes what the brought-back model does."""
    with torch.no_grad():
        ours = model(image.permute(0, 2, 3, 1).numpy(), training=False)
        gap = np.abs(keras.ops.convert_to_numpy(ours) - twin(image).numpy())
    if gap.max() > TOLERANCE:
        raise RuntimeError(
            f"PyTorch and Keras differ by {gap.max():.1e} on model "
            f"'{model.name}'."
        )
