"""SearchModel: finds filters and ranks by gradient, inside `fit`."""

import inspect
import itertools
import json

import keras
import numpy as np
from keras import ops

from keras_df import ops as df_ops
from keras_df.budgets import as_budgets
from keras_df.budgets.allocation import Allocator
from keras_df.budgets.constraints import Constraints
from keras_df.calibration import moment_size
from keras_df.calibration import second_moments
from keras_df.calibration import take_batches
from keras_df.graph import analyze
from keras_df.graph.scales import output_scales
from keras_df.graph.twin import copy_weights
from keras_df.graph.twin import twin
from keras_df.graph.walk import rebuild
from keras_df.plan import CompressionPlan
from keras_df.search.callback import DFCallback
from keras_df.search.config import SearchConfig
from keras_df.search.rounding import rank_scores
from keras_df.search.rounding import unit_scores
from keras_df.search.schedule import Schedule
from keras_df.search.wrapper import CompressibleLayer
from keras_df.search.wrapper import KernelView

CALIBRATION_STEPS = 12


class UnitInterval(keras.constraints.Constraint):
    """Keeps a variable within `[0, 1]`."""

    def __call__(self, w):
        return ops.clip(w, 0.0, 1.0)


class Latest(keras.metrics.Metric):
    """The value at the latest step, not a mean over the epoch."""

    def __init__(self, name):
        super().__init__(name=name)
        self.value = self.add_weight(shape=(), initializer="zeros")

    def update_state(self, value):
        self.value.assign(value)

    def result(self):
        return self.value


@keras.saving.register_keras_serializable(package="keras_df")
class SearchModel(keras.Model):
    """Searches which filters of a model to keep, and the rank of each layer.

    A copy of the model is made, its weights frozen. What is trained is one
    mask logit per group of coupled filters and one threshold per kernel, so
    that the loss is small and the model's cost is within the budget.

    Args:
        model: A built Functional or Sequential model, trained. It is not
            modified.
        budget: A budget such as `keras_df.FLOPs(0.5)`, or a list of budgets
            that must all hold.
        constraints: `keras_df.Constraints`, what the plan has to respect.
        config: `keras_df.SearchConfig`, the hyper-parameters.

    Raises:
        TypeError: If `model` or `budget` is of the wrong type.
        ValueError: If `model` is subclassed or not built, or if the budget
            cannot be reached; the message says what can.

    Example:

    ```python
    search = keras_df.SearchModel(model, budget=keras_df.FLOPs(0.5))
    search.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    search.fit(train, epochs=2)
    plan = search.plan()
    ```

    Reference: Algorithm 1 of the paper.
    """

    def __init__(
        self,
        model: keras.Model,
        budget,
        constraints: Constraints | None = None,
        config: SearchConfig | None = None,
        **kwargs,
    ):
        graph = analyze(model)
        # Masks and spectra are float32 whatever the layers compute in.
        super().__init__(dtype="float32", **kwargs)
        self.budgets = as_budgets(budget)
        self.constraints = constraints or Constraints()
        self.config = config or SearchConfig()
        self._graph = graph
        self._allocator = Allocator(graph, self.budgets, self.constraints)
        self._architecture = json.dumps(_architecture(model))
        self.schedule = Schedule(self.config, name="schedule")
        self._build_network(model)
        self._build_parameters()
        self._trackers = {
            resource: Latest(name=resource)
            for resource in self._allocator.limits
        }
        self._costs = None
        # `keras.ops.eigh` compiles slowly under XLA on TensorFlow.
        self.supports_jit = keras.config.backend() != "tensorflow"
        self.built = True

    def _build_network(self, model):
        graph, wrappers, copies = self._graph, {}, []
        scales = output_scales(graph)
        schemes = self._allocator.cost.schemes

        def replace(path, operation):
            node = graph.nodes["/".join(path)]
            copy = twin(operation)
            if isinstance(operation, keras.Layer):
                copies.append((operation, copy))
            if node.kernel is None:
                return copy
            size = moment_size(operation)
            if self.config.metric == "weights":
                size = None
            scale = scales.get(node.path) if size is not None else None
            view = KernelView(
                node, graph.units, schemes.get(node.path), scale, size
            )
            wrappers[node.path] = CompressibleLayer(copy, view, self.config)
            return wrappers[node.path]

        self.network = rebuild(model, replace)
        self.wrappers = [wrappers[p] for p in self._allocator.cost.paths]
        self.network.trainable = True
        for source, copy in copies:
            copy_weights(source, copy)
        for layer in self.network._flatten_layers():
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            if is_norm and self.config.normalization == "inference":
                layer.trainable = False
        for variable in self.network.variables:
            variable.trainable = False

    def _build_parameters(self):
        free = np.flatnonzero(self._allocator.free)
        units = self._graph.unit_count
        # Units that must stay read a constant 1 behind the free units' masks.
        self._slots = np.full(units, len(free), "int32")
        self._slots[free] = np.arange(len(free))
        self._free = free
        decomposable = np.flatnonzero(self._allocator.cost.decomposable)
        self._threshold_index = {int(x): i for i, x in enumerate(decomposable)}
        self.logits = self._parameter("logits", len(free), "ones")
        self.thresholds = self._parameter(
            "thresholds", len(decomposable), "zeros"
        )
        self.start = self.add_weight(
            shape=(len(self._allocator.limits),),
            initializer="ones",
            trainable=False,
            name="start",
        )
        self.is_calibrated = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="calibrated"
        )

    def _parameter(self, name, size, initializer):
        return self.add_weight(
            shape=(size,),
            initializer=initializer,
            constraint=UnitInterval(),
            name=name,
            dtype="float32",
        )

    def relax(self):
        """Computes the relaxed kernels, and what the relaxed model costs.

        Returns:
            Tuple of a list with one `Relaxed` per wrapper, and a dict from
            each budget's resource to a scalar tensor, a share of the
            original cost.
        """
        mask = self._mask()
        steepness = self.schedule.rank_steepness()
        relaxed = [
            wrapper.relax(mask, self._threshold(index), steepness)
            for index, wrapper in enumerate(self.wrappers)
        ]
        zero = ops.zeros(())
        ranks = ops.stack([zero if r.rank is None else r.rank for r in relaxed])
        cost = self._allocator.cost
        shares = {
            resource: cost.soft_count(resource, mask, ranks, cost.decomposable)
            / cost.totals[resource]
            for resource in self._allocator.limits
        }
        return relaxed, shares

    def _mask(self):
        """The soft mask of every unit, shape `(units,)`."""
        steepness = self.schedule.mask_steepness()
        mask = df_ops.scheduled_sigmoid(self.logits.value, steepness)
        if self.config.mask == "unit":
            mask = mask / df_ops.scheduled_sigmoid(1.0, steepness)
        return ops.take(ops.append(mask, ops.ones((1,))), self._slots)

    def _threshold(self, index):
        if index not in self._threshold_index:
            return None
        return self.thresholds.value[self._threshold_index[index]]

    def call(self, inputs, training=None):
        relaxed, self._costs = self.relax()
        try:
            for wrapper, kernel in zip(self.wrappers, relaxed):
                wrapper.use(kernel)
            outputs = self.network(inputs, training=training)
        finally:
            for wrapper in self.wrappers:
                wrapper.use(None)
        return outputs

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Adds the excess over the budget to the compiled loss (Eq. 7)."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        costs, self._costs = self._costs or self.relax()[1], None
        for resource, share in costs.items():
            self._trackers[resource].update_state(ops.stop_gradient(share))
        if not training:
            return loss
        excess = ops.sum(ops.relu(self._shares(costs) - self._targets()))
        self.schedule.advance()
        return loss + self.config.penalty * excess

    def _shares(self, costs):
        return ops.stack([costs[name] for name in self._allocator.limits])

    def _targets(self):
        totals = self._allocator.cost.totals
        goals = [
            limit / totals[name]
            for name, limit in self._allocator.limits.items()
        ]
        return self.schedule.target(self.start.value, np.float32(goals))

    def fit(self, *args, **kwargs):
        """Trains masks and thresholds. Arguments as for `keras.Model.fit`.

        Before the first step, the second moments of the layers' inputs are
        measured on the first batches. A `DFCallback` is added if `callbacks`
        has none.
        """
        signature = inspect.signature(super().fit)
        arguments = signature.bind(*args, **kwargs).arguments
        arguments["x"] = self._calibrate(
            arguments.get("x"), arguments.get("batch_size") or 32
        )
        arguments["callbacks"] = _with_df_callback(arguments.get("callbacks"))
        return super().fit(**arguments)

    def _calibrate(self, data, batch_size):
        """Measures second moments once; returns data with nothing lost."""
        if float(self.is_calibrated):
            return data
        if self.config.metric == "activations":
            if inspect.isgenerator(data):
                read = list(itertools.islice(data, CALIBRATION_STEPS))
                data = itertools.chain(read, data)
            else:
                read = data
            batches = take_batches(read, CALIBRATION_STEPS, batch_size)
            paths = self._allocator.cost.paths
            named = dict(zip(paths, self.wrappers))
            moments = second_moments(self.network, batches, paths)
            for path, moment in moments.items():
                if named[path].moment is not None:
                    named[path].set_moment(moment)
        self.start.assign(self._shares(self.relax()[1]))
        self.is_calibrated.assign(1.0)
        return data

    def plan(self) -> CompressionPlan:
        """Rounds the search to a plan that meets the budget exactly.

        Returns:
            A `CompressionPlan`, its cost counted on the real layers.
        """
        relaxed, shares = self.relax()
        scores = np.ones(self._graph.unit_count)
        scores[self._free] = unit_scores(ops.convert_to_numpy(self.logits))
        thresholds = ops.convert_to_numpy(self.thresholds)
        ranks = [
            np.empty(0)
            if r.sigma is None
            else rank_scores(
                ops.convert_to_numpy(r.sigma),
                thresholds[self._threshold_index[index]],
            )
            for index, r in enumerate(relaxed)
        ]
        selection = self._allocator.fit(scores, ranks)
        return CompressionPlan.from_selection(
            self._graph, selection, self.budgets
        )

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "model": json.loads(self._architecture),
            "budget": [serialize(budget) for budget in self.budgets],
            "constraints": serialize(self.constraints),
            "config": serialize(self.config),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        for key in ("model", "constraints", "config"):
            config[key] = deserialize(config[key])
        config["budget"] = [deserialize(x) for x in config["budget"]]
        return cls(**config)

    def build(self, input_shape=None):
        self.built = True


def _architecture(model):
    """A model's layers, without the loss and optimizer it was trained with."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    return config


def _with_df_callback(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        known = callbacks.callbacks
        if not any(isinstance(x, DFCallback) for x in known):
            callbacks.append(DFCallback())
        return callbacks
    known = keras.tree.flatten(callbacks) if callbacks else []
    if any(isinstance(callback, DFCallback) for callback in known):
        return known
    return [*known, DFCallback()]
