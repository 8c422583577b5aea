"""A model and its replacement, run side by side on the same batches."""

import math
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras
from keras import tree

from keras_df.graph.walk import is_graph
from keras_df.graph.walk import walk
from keras_df.graph.walk import walk_nested

MEMORY = 2**31
"""Bytes of activations to hold at once, over all batches of both models."""


class Calls(list):
    """The calls of one operation in one model: `(args, kwargs)` per batch."""

    def run(self, function):
        """Returns what a function returns for each batch, each from one state.

        Neither a recurrent layer's state nor any other is changed.
        """
        return [_result(function, args, kwargs) for args, kwargs in self]

    @property
    def tensors(self):
        """The first tensor that each call reads."""
        return [args[0] if args else kwargs["inputs"] for args, kwargs in self]


def _result(function, args, kwargs):
    with keras.StatelessScope():
        return function(*args, **kwargs)


def run_side_by_side(model, batches, visit):
    """Runs a model and what replaces it, one operation after the other.

    Every operation sees all batches before the next one is run, so a
    replacement may be changed before its outputs are computed. Activations
    are freed when the last operation has read them, and as many samples of
    each batch are used as fit into `MEMORY`.

    Args:
        model: A built Functional or Sequential model, run in inference mode.
        batches: List with, per batch, the list of the model's input tensors.
        visit: Function `visit(path, operation, original, changed)`; `path` is
            the tuple of names that leads to the operation, `original` and
            `changed` are its `Calls` in the model and in the replacement.
            Returns two lists with the outputs of each batch.
    """
    rehearsal = _Rehearsal()
    walk(model, list(map(rehearsal.value, batches[0])), rehearsal.visit)
    share = MEMORY / (2 * rehearsal.peak() * len(batches))
    batches = [_part(batch, share) for batch in batches]
    performance = _Performance(visit, rehearsal.reads, len(batches))
    inputs = [
        performance.value(list(tensors), list(tensors))
        for tensors in zip(*batches)
    ]
    walk(model, inputs, performance.visit)


def _part(batch, share):
    """The first samples of a batch; a share of 1 or more is all of them."""
    if share >= 1:
        return batch
    return [
        None if x is None else x[: max(1, int(share * x.shape[0]))]
        for x in batch
    ]


def _bytes(tensor):
    """What a tensor takes; an optional input may be None."""
    if tensor is None:
        return 0
    item = keras.backend.standardize_dtype(tensor.dtype)
    return math.prod(tensor.shape) * (2 if item.endswith("16") else 4)


@dataclass(eq=False)
class _Rehearsed:
    """A value of the rehearsal: one tensor, and its place among all."""

    tensor: Any
    place: int


class _Rehearsal:
    """Runs one batch, and counts how often each value is read.

    Attributes:
        reads: List of how many calls read each value, in order of creation.
    """

    def __init__(self):
        self.reads, self._sizes, self._events = [], [], []

    def value(self, tensor):
        self.reads.append(0)
        self._sizes.append(_bytes(tensor))
        return _Rehearsed(tensor, len(self.reads) - 1)

    def visit(self, path, operation, *args, **kwargs):
        if is_graph(operation):
            return walk_nested(path, operation, self.visit, args, kwargs)
        read = _values((args, kwargs), _Rehearsed)
        for value in read:
            self.reads[value.place] += 1
        args, kwargs = _unpacked((args, kwargs), lambda value: value.tensor)
        outputs = _result(operation, args, inference(operation, kwargs))
        made = len(self.reads)
        outputs = tree.map_structure(self.value, outputs)
        self._events.append(
            ([x.place for x in read], range(made, len(self.reads)))
        )
        return outputs

    def peak(self):
        """The most bytes that are alive at once."""
        left = list(self.reads)
        alive = peak = sum(self._sizes) - sum(
            self._sizes[place] for _, made in self._events for place in made
        )
        for read, made in self._events:
            alive += sum(self._sizes[place] for place in made)
            peak = max(peak, alive)
            for place in read:
                left[place] -= 1
                alive -= self._sizes[place] if not left[place] else 0
        return max(peak, 1)


@dataclass(eq=False)
class _Value:
    """A value in both models: a list with one tensor per batch, each."""

    original: list
    changed: list
    left: int = field(default=0)


class _Performance:
    def __init__(self, visit, reads, batches):
        self._visit = visit
        self._reads = iter(reads)
        self._batches = batches

    def value(self, original, changed):
        return _Value(original, changed, next(self._reads))

    def visit(self, path, operation, *args, **kwargs):
        if is_graph(operation):
            return walk_nested(path, operation, self.visit, args, kwargs)
        kwargs = inference(operation, kwargs)
        read = _values((args, kwargs), _Value)
        calls = [
            Calls(
                _unpacked(
                    (args, kwargs),
                    lambda value, i=i, side=side: getattr(value, side)[i],
                )
                for i in range(self._batches)
            )
            for side in ("original", "changed")
        ]
        original, changed = self._visit(path, operation, *calls)
        for value in read:
            value.left -= 1
            if not value.left:
                value.original = value.changed = None
        return _zipped(original, changed, self.value)


def inference(operation, kwargs):
    """Keyword arguments with which an operation runs in inference mode."""
    kwargs = {k: v for k, v in kwargs.items() if k != "training"}
    if isinstance(operation, keras.layers.Layer):
        kwargs["training"] = False  # A layer may have another default.
    return kwargs


def _values(structure, kind):
    """The distinct values among the arguments of a call."""
    found = [x for x in tree.flatten(structure) if isinstance(x, kind)]
    return list({id(x): x for x in found}.values())


def _unpacked(structure, unpack):
    return tree.map_structure(
        lambda x: unpack(x) if isinstance(x, (_Rehearsed, _Value)) else x,
        structure,
    )


def _zipped(original, changed, make):
    """Structures of tensors per batch -> a structure of values."""
    flat = [
        [tree.flatten(x) for x in outputs] for outputs in (original, changed)
    ]
    values = [
        make([x[i] for x in flat[0]], [x[i] for x in flat[1]])
        for i in range(len(flat[0][0]))
    ]
    return tree.pack_sequence_as(original[0], values)
