"""SearchModel: finds filters and ranks by gradient, inside `fit`."""

import dataclasses
import functools
import inspect
import json

import keras
import numpy as np
from keras import ops

from keras_df import ops as df_ops
from keras_df.budgets import as_budgets
from keras_df.budgets.allocation import Allocator
from keras_df.budgets.caps import exceeded_caps
from keras_df.budgets.constraints import Constraints
from keras_df.budgets.constraints import as_constraints
from keras_df.checks import check_positive_integer
from keras_df.checks import check_type
from keras_df.checks import is_finite_number
from keras_df.checks import shown
from keras_df.graph import analyze
from keras_df.graph.walk import graph_of
from keras_df.graph.weights import check_weights
from keras_df.plan import CompressionPlan
from keras_df.search.cached import TOLERANCE as MASK_TOLERANCE
from keras_df.search.cached import CachedRelaxation
from keras_df.search.calibration import calibrate
from keras_df.search.callback import check_length
from keras_df.search.callback import with_own_callbacks
from keras_df.search.config import SearchConfig
from keras_df.search.exact import ExactRelaxation
from keras_df.search.guard import Guard
from keras_df.search.latest import Latest
from keras_df.search.network import build_network
from keras_df.search.network import unchanged
from keras_df.search.penalty import Penalty
from keras_df.search.replicas import add_state
from keras_df.search.replicas import check_strategy
from keras_df.search.resume import ResumableModel
from keras_df.search.rounding import disagreements
from keras_df.search.rounding import masked_spectra
from keras_df.search.rounding import rank_scores
from keras_df.search.rounding import unit_scores
from keras_df.search.schedule import Schedule
from keras_df.search.settling import SETTLING
from keras_df.search.settling import settling

WITHOUT_FIT = (
    "The search was trained without `fit`, so that nothing was measured and "
    "annealed: call `fit`, with `DFCallback(steps=...)` if batch by batch."
)


@keras.saving.register_keras_serializable(package="keras_df")
class SearchModel(ResumableModel):
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
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is subclassed, not built, has weights that are
            not finite or nothing that can be compressed, if the budget
            cannot be reached (the message says what can), or if
            `keras.config.floatx()` is not `"float32"`.

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
        check_strategy()
        _check_floatx()
        constraints = as_constraints(constraints)
        wanted = "`keras_df.SearchConfig`"
        check_type("config", config, SearchConfig, wanted, optional=True)
        graph = analyze(model)
        check_weights(graph)
        # Masks and spectra are float32 whatever the layers compute in.
        super().__init__(dtype="float32", **kwargs)
        self.budgets = as_budgets(budget)
        self.constraints = constraints
        self.config = config or SearchConfig()
        self._graph = graph
        self._allocator = Allocator(graph, self.budgets, self.constraints)
        # As they are now: the model may be trained meanwhile.
        self._resolved_constraints = constraints.resolved(graph)
        self._architecture = _architecture(model)
        self.schedule = Schedule(self.config, name="schedule")
        self.network, self.wrappers, shared = build_network(
            model, graph, self._allocator, self.config
        )
        # A list would be tracked, and its variables trained.
        self._leaving_the_model_alone = functools.partial(unchanged, shared)
        self._build_parameters()
        self.penalty = Penalty(self.config, name="penalty")
        self._trackers = {
            resource: Latest(name=resource)
            for resource in self._allocator.limits
        }
        self._trackers |= {name: Latest(name=name) for name in SETTLING}
        is_cached = self.config.spectra == "cached"
        relaxation = CachedRelaxation if is_cached else ExactRelaxation
        self.relaxation = relaxation(list(self.wrappers.values()), self.config)
        # `keras.ops.eigh` compiles slowly under XLA on TensorFlow.
        self.supports_jit = is_cached or (
            keras.config.backend() != "tensorflow"
        )
        self.built = True

    def _build_parameters(self):
        free = np.flatnonzero(self._allocator.free)
        units = self._graph.unit_count
        # Units that must stay read a constant 1 behind the free units' masks.
        self._slots = np.full(units, len(free), "int32")
        self._slots[free] = np.arange(len(free))
        self._free = free
        decomposable = np.flatnonzero(self._allocator.cost.decomposable)
        # Layers that stay dense read a constant 0 behind the soft ranks.
        layer_count = len(self._allocator.cost.paths)
        self._rank_slots = np.full(layer_count, len(decomposable), "int32")
        self._rank_slots[decomposable] = np.arange(len(decomposable))
        # A step moves each logit `mask_rate` times as far as its variable.
        least = 1 - 1 / self.config.mask_rate
        self.logits = self._parameter("logits", len(free), "ones", least)
        self.thresholds = self._parameter(
            "thresholds", len(decomposable), "zeros", 0.0
        )
        # The relaxed cost of each budget, as a share of the original: at the
        # start of the search, and now.
        self.start = self._state("start", len(self._allocator.limits))
        self.shares = self._state("shares", len(self._allocator.limits))
        # How far masks and ranks have settled.
        self.settled = self._state("settled", len(SETTLING))
        self.is_calibrated = self._state("calibrated", 1, "zeros")

    @property
    def trainable_variables(self):
        """The mask logits and thresholds: nothing else is ever trained."""
        found = [getattr(self, x, None) for x in ("logits", "thresholds")]
        return [x for x in found if x is not None and x.trainable]

    @property
    def trainable_weights(self):
        return self.trainable_variables

    @property
    def non_trainable_variables(self):
        return _without(self.variables, self.trainable_variables)

    @property
    def non_trainable_weights(self):
        return _without(self.weights, self.trainable_variables)

    def _parameter(self, name, size, initializer, least):
        return self.add_weight(
            shape=(size,),
            initializer=initializer,
            constraint=functools.partial(ops.clip, x_min=least, x_max=1.0),
            trainable=size > 0,
            name=name,
            dtype="float32",
        )

    def _state(self, name, size, initializer="ones"):
        return add_state(self, name, (size,), initializer)

    def relax(self):
        """Computes the relaxed kernels, and what the relaxed model costs.

        Returns:
            Tuple of a list with the relaxed kernel of each wrapper, as
            `CachedRelaxation.relax` returns it, a tensor with the soft rank
            of each wrapper, 0 for those that stay dense, and a tensor with
            the cost in each budget's resource as a share of the original.
        """
        mask = self._mask()
        kernels, ranks = self.relaxation.relax(
            mask, self.thresholds.value, self.schedule.rank_steepness()
        )
        ranks = ops.take(ops.append(ranks, ops.zeros((1,))), self._rank_slots)
        cost = self._allocator.cost
        shares = [
            cost.soft_count(resource, mask, ranks) / cost.totals[resource]
            for resource in self._allocator.limits
        ]
        return kernels, ranks, ops.stack(shares)

    def refresh(self, tolerance: float | None = MASK_TOLERANCE):
        """Renews the singular vectors of kernels whose masks have moved.

        `DFCallback` does so during `fit`. Call it where masks or thresholds
        were set by hand, unless `SearchConfig(spectra="exact")` is used.

        Args:
            tolerance: Number in `[0, 1]`, by how much a mask may move before
                the vectors of its kernels are renewed; None to renew all.
        """
        if tolerance is not None and not (
            is_finite_number(tolerance) and 0 <= tolerance <= 1
        ):
            raise ValueError(
                "`tolerance` must be in [0, 1], or None to renew all. "
                f"Received: tolerance={shown(tolerance)}"
            )
        self.synchronize()
        self.relaxation.refresh(self._finite_mask(), tolerance)

    def synchronize(self):
        """Makes variables current where a backend trains copies of them."""
        if hasattr(self, "jax_state_sync"):
            self.jax_state_sync()

    def _finite_mask(self):
        """The soft mask as an array; an error if it is not finite."""
        mask = ops.convert_to_numpy(self._mask())
        if not np.isfinite(mask).all():
            raise FloatingPointError(
                "Mask logits of the search are NaN or infinite, as after a "
                "loss that is. Load or make the search anew, and look for NaN "
                "in the data."
            )
        return mask

    def _mask(self):
        """The soft mask of every unit, shape `(units,)`."""
        steepness = self.schedule.mask_steepness()
        mask = df_ops.scheduled_sigmoid(self._mask_logits(), steepness)
        if self.config.mask == "unit":
            mask = mask / df_ops.scheduled_sigmoid(1.0, steepness)
        return ops.take(ops.append(mask, ops.ones((1,))), self._slots)

    def _mask_logits(self):
        """The logits `M` of Eq. 8, in `[0, 1]`."""
        return 1.0 - self.config.mask_rate * (1.0 - self.logits.value)

    def call(self, inputs, training=None):
        kernels, ranks, shares = self.relax()
        self.shares.assign(shares)
        self.settled.assign(self._settling(ranks))
        if training:
            self.add_loss(self.penalty(self._distance(shares)))
            self.schedule.advance()
        try:
            for wrapper, kernel in zip(self.wrappers.values(), kernels):
                wrapper.use(kernel)
            return self.network(inputs, training=training)
        finally:
            for wrapper in self.wrappers.values():
                wrapper.use(None)

    def _settling(self, ranks):
        limits = self._allocator.cost.limits[self._allocator.cost.decomposable]
        return settling(ops.take(self._mask(), self._free), ranks, limits)

    def _distance(self, shares):
        """How far the cost is from the budget of this step."""
        totals = self._allocator.cost.totals
        goals = [
            limit / totals[name]
            for name, limit in self._allocator.limits.items()
        ]
        targets = self.schedule.target(self.start.value, np.float32(goals))
        # Only the tightest budget binds. What it leaves unused would have
        # bought accuracy, so the penalty has two sides.
        return ops.abs(ops.max(shares - targets))

    @property
    def losses(self):
        """Losses of `add_loss`. A replica sees no penalty but its own."""
        return self.penalty.own(super().losses)

    @property
    def output_names(self):
        """Names by which losses, metrics and weights may be given."""
        return graph_of(self.network).output_names

    def compile(self, *args, **kwargs):
        """Configures the search. Arguments as for `keras.Model.compile`.

        Where a layer computes in float16, the loss is scaled, as Keras does
        for a model that is float16 as a whole.
        """
        signature = inspect.signature(super().compile)
        arguments = signature.bind(*args, **kwargs).arguments
        if arguments.get("auto_scale_loss", True) and any(
            layer.compute_dtype == "float16"
            for layer in self.network._flatten_layers()
        ):
            optimizer = arguments.get("optimizer", "rmsprop")
            arguments["optimizer"] = _with_scaled_loss(optimizer)
        super().compile(**arguments)

    def compile_from_config(self, config):
        """Compiles as a saved search was; Keras calls it in `load_model`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Computes the compiled loss, and shows the budget as it falls."""
        if self.loss is None and len(self.losses) == 1:
            raise ValueError(
                "The search has no loss but its distance to the budget, so "
                "nothing would tell which filters matter. Pass the loss that "
                "the model was trained with, as `compile(loss=...)`."
            )
        latest = ops.append(self.shares, self.settled)
        for index, tracker in enumerate(self._trackers.values()):
            tracker.show(latest[index])
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        self.penalty.observe(loss, self.losses, self.schedule.step.value)
        return loss

    def fit(self, *args, **kwargs):
        """Trains masks and thresholds. Arguments as for `keras.Model.fit`.

        Before the first step, the second moments of the layers' inputs are
        measured on a few batches, of arrays from all over them. A
        `DFCallback` is added if `callbacks` has none. A loop of your own over
        batches calls `fit` for each, with `DFCallback(steps=...)` for all of
        them: `train_on_batch` neither measures nor anneals.

        With a `keras.callbacks.BackupAndRestore`, a search that was killed
        goes on at the step of its last backup: the batches that its epoch has
        had, or with `steps_per_epoch` all that were read, are read past. The
        outcome is the same if the data comes in the same order again, as with
        `shuffle=False` or a `tf.data.Dataset` that is shuffled with a `seed`
        and `reshuffle_each_iteration=False`.
        """
        if not self.compiled:
            raise ValueError(
                "Call `compile()` with an optimizer and the model's loss "
                "before `fit()`."
            )
        signature = inspect.signature(super().fit)
        arguments = signature.bind(*args, **kwargs).arguments
        for name in ("batch_size", "epochs"):
            if arguments.get(name) is not None:
                check_positive_integer(name, arguments[name])
        guard = Guard()
        callbacks = with_own_callbacks(arguments.get("callbacks"), guard, self)
        check_length(callbacks, arguments)
        arguments["callbacks"] = callbacks
        self.guard = guard
        try:
            if not self.expect_backup(arguments):
                arguments["x"] = self._calibrate(
                    arguments.get("x"), arguments.get("batch_size") or 32
                )
            with self._leaving_the_model_alone():
                return super().fit(**arguments)
        finally:
            self.guard = None

    def _calibrate(self, data, batch_size):
        """Measures the inputs once; returns data with nothing lost."""
        if self._was_fitted():
            return data
        if self.config.metric == "activations":
            data = calibrate(self.network, self.wrappers, data, batch_size)
        self.refresh(tolerance=None)
        self.start.assign(self.relax()[-1])
        self.is_calibrated.assign([1.0])
        return data

    def _was_fitted(self):
        return bool(ops.convert_to_numpy(self.is_calibrated)[0])

    def plan(self) -> CompressionPlan:
        """Rounds the search to a plan that meets the budget exactly.

        Returns:
            A `CompressionPlan`, its cost counted on the real layers.
        """
        self.synchronize()
        scores = np.ones(self._graph.unit_count)
        logits = ops.convert_to_numpy(self._mask_logits())
        scores[self._free] = unit_scores(logits)
        thresholds = ops.convert_to_numpy(self.thresholds)
        # An optimizer's average may have left the interval.
        thresholds = np.append(np.clip(thresholds, 0, 1), 0)[self._rank_slots]
        spectra = masked_spectra(self.wrappers.values(), self._finite_mask())
        ranks = [
            rank_scores(sigma, threshold)
            for sigma, threshold in zip(spectra, thresholds)
        ]
        selection = self._allocator.fit(scores, ranks)
        plan = CompressionPlan.from_selection(
            self._graph,
            selection,
            self.budgets,
            exceeded_caps(self._allocator, selection),
        )
        shares = ops.convert_to_numpy(self.relax()[-1])
        notes = disagreements(plan, dict(zip(self._allocator.limits, shares)))
        if self.schedule.count() and not self._was_fitted():
            notes.append(WITHOUT_FIT)
        return dataclasses.replace(plan, notes=[*plan.notes, *notes])

    def get_config(self):
        if isinstance(self._architecture, Exception):
            raise NotImplementedError(
                "The search cannot be saved, because its model cannot: "
                f"{self._architecture} Its weights can, by `save_weights`."
            ) from self._architecture
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "model": json.loads(self._architecture),
            "budget": [serialize(budget) for budget in self.budgets],
            "constraints": serialize(self._resolved_constraints),
            "config": serialize(self.config),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        missing = {"model", "budget", "constraints", "config"} - set(config)
        if missing:
            raise ValueError(
                "This is not the config of a search: it lacks "
                f"{', '.join(sorted(missing))}."
            )
        deserialize = keras.saving.deserialize_keras_object
        for key in ("model", "constraints", "config"):
            config[key] = deserialize(config[key])
        config["budget"] = [deserialize(x) for x in config["budget"]]
        return cls(**config)

    def build(self, input_shape=None):
        self.built = True


def _check_floatx():
    """Keras makes constants of this type, and TensorFlow mixes none."""
    if (floatx := keras.config.floatx()) != "float32":
        raise ValueError(
            "A search computes in float32, whatever the layers compute in. "
            "Call `keras.config.set_floatx('float32')` before it; the model "
            f"stays as it is. Received: floatx={floatx!r}"
        )


def _without(variables, excluded):
    excluded = {id(variable) for variable in excluded}
    return [x for x in variables if id(x) not in excluded]


def _architecture(model):
    """A model's layers as JSON, or the error that there are none.

    The loss and the optimizer that it was trained with are left out.
    """
    try:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        return json.dumps(config)
    except Exception as error:  # What a layer of the user's raises.
        return error


def _with_scaled_loss(optimizer):
    optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)
