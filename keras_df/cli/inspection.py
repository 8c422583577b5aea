"""The commands that only look: inspect, count, benchmark."""

import dataclasses

from keras_df.budgets import count
from keras_df.cli.console import Result
from keras_df.cli.console import UsageError
from keras_df.cli.console import existing
from keras_df.cli.options import load_model
from keras_df.cli.options import make_budget
from keras_df.cli.options import make_constraints
from keras_df.cli.parser import add_budget
from keras_df.cli.parser import add_command
from keras_df.cli.parser import add_model
from keras_df.cli.parser import add_timing
from keras_df.export import benchmark
from keras_df.report import inspect


def add_inspect(commands):
    parser = add_command(
        commands,
        "inspect",
        "MODEL",
        run_inspect,
        "Show what can be compressed in a model, and why the rest cannot.",
        [
            "keras-df inspect model.keras",
            "keras-df inspect model.keras --budget 0.3 --round_to 8",
            "keras-df inspect model.keras --json | jq .smallest.macs",
        ],
    )
    add_model(parser)
    add_budget(parser, default=None)


def run_inspect(args):
    constraints = make_constraints(args)
    model = load_model(args)
    found = inspect(model, make_budget(args, model), constraints)
    return Result(str(found), dataclasses.asdict(found))


def add_count(commands):
    parser = add_command(
        commands,
        "count",
        "MODEL",
        run_count,
        "Count a model's multiply-accumulates, FLOPs and parameters.",
        [
            "keras-df count model.keras",
            "keras-df count model.keras --layers",
            "keras-df count small.keras --json | jq .macs",
        ],
    )
    add_model(parser)
    parser.add_argument(
        "--layers", action="store_true", help="Show every layer."
    )


def run_count(args):
    found = count(load_model(args))
    lines = [str(found)]
    if args.layers:
        width = max(len(layer.name) for layer in found.layers)
        lines += [
            f"{layer.name:{width}}  {layer.macs:>15,} MACs  "
            f"{layer.flops:>15,} FLOPs  {layer.params:>12,} parameters"
            for layer in found.layers
        ]
    return Result("\n".join(lines), dataclasses.asdict(found))


def add_benchmark(commands):
    parser = add_command(
        commands,
        "benchmark",
        "FILE ...",
        run_benchmark,
        "Time .tflite files on this machine, interleaved.",
        [
            "keras-df benchmark original.tflite small.tflite",
            "keras-df benchmark a.tflite b.tflite --threads 4 --json",
        ],
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help=".tflite files."
    )
    add_timing(parser)


def run_benchmark(args):
    for path in args.files:
        existing(path)
    check_timing(args)
    timings = benchmark(*args.files, threads=args.threads, repeats=args.repeats)
    first = timings[0].median
    lines = [f"{x}  {first / x.median:.2f}x" for x in timings]
    files = [
        {**dataclasses.asdict(x), "speedup": first / x.median} for x in timings
    ]
    return Result("\n".join(lines), {"files": files})


def check_timing(args):
    """Checks the flags of `add_timing`."""
    if args.threads < 1 or args.repeats < 1:
        raise UsageError("--threads and --repeats must be positive.")
