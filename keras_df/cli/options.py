"""From flags to the library's objects."""

import os

import keras

from keras_df.budgets import FLOPs
from keras_df.budgets import Latency
from keras_df.budgets import LatencyTable
from keras_df.budgets import MACs
from keras_df.budgets import Params
from keras_df.budgets.constraints import Constraints
from keras_df.cli.console import UsageError
from keras_df.cli.console import as_usage
from keras_df.cli.console import existing
from keras_df.cli.console import say
from keras_df.export import measure_latency
from keras_df.plan import CompressionPlan

BUDGETS = {"flops": FLOPs, "macs": MACs, "params": Params}


def load_model(args):
    """Loads the model that the flags name, in Keras's safe mode."""
    path = existing(args.model)
    if os.path.isdir(path) or not path.endswith((".keras", ".h5")):
        raise UsageError(
            f"'{path}' is no .keras file. Save the model with "
            "`model.save('model.keras')`."
        )
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def load_plan(args):
    """Loads the plan that the flags name."""
    return CompressionPlan.load(existing(args.plan))


def make_constraints(args):
    """Makes `Constraints` of the flags of `add_budget`."""
    with as_usage():
        return Constraints(
            prune=not args.no_prune,
            decompose=not args.no_decompose,
            scheme=args.scheme,
            round_to=args.round_to,
            min_channels=args.min_channels,
            skip=tuple(args.skip),
        )


def make_budget(args, model, threads=1):
    """Makes the budget of the flags of `add_budget`, None if there is none.

    For a latency without a table, one is measured, with so many threads.
    """
    if args.latency_table and args.resource != "latency":
        raise UsageError(
            "--latency_table is for --resource latency. Received: --resource "
            f"{args.resource}"
        )
    if args.budget is None:
        if args.resource == "latency":
            raise UsageError(
                "--resource latency needs a --budget, such as --budget 0.8."
            )
        return None
    if args.resource != "latency":
        with as_usage():
            return BUDGETS[args.resource](args.budget)
    with as_usage():
        FLOPs(args.budget)  # The number is checked before a minute of work.
    if args.latency_table:
        table = LatencyTable.load(existing(args.latency_table))
    else:
        say(args, "Measuring what the layers cost on this machine")
        table = measure_latency(model, threads=threads, verbose=not args.quiet)
    return Latency(args.budget, table)


def precision(args):
    """The `quantize` of `keras_df.export.litert`."""
    return None if args.quantize == "float32" else args.quantize
