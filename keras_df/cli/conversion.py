"""The commands that make one file of others: apply, export, report."""

import os

from keras_df import export
from keras_df.budgets import count
from keras_df.cli.console import Result
from keras_df.cli.console import UsageError
from keras_df.cli.console import existing
from keras_df.cli.console import writable
from keras_df.cli.data import load_data
from keras_df.cli.options import load_model
from keras_df.cli.options import load_plan
from keras_df.cli.options import precision
from keras_df.cli.parser import add_command
from keras_df.cli.parser import add_data
from keras_df.cli.parser import add_model
from keras_df.cli.parser import add_out
from keras_df.cli.parser import add_overwrite
from keras_df.cli.parser import add_quantize
from keras_df.files import read_json
from keras_df.files import replacing
from keras_df.report import Outcome
from keras_df.report import html
from keras_df.surgery import compress
from keras_df.surgery import recalibrate

SHOWN = ("macs", "flops", "params")


def add_apply(commands):
    parser = add_command(
        commands,
        "apply",
        "MODEL PLAN --out PATH",
        run_apply,
        "Carry out a plan on a model.",
        [
            "keras-df apply model.keras plan.json --out small.keras",
            "keras-df apply model.keras plan.json --out small.keras "
            "--data train.npz",
        ],
    )
    add_model(parser)
    parser.add_argument("plan", help="A plan.json that keras-df wrote.")
    add_out(parser, "The .keras file to write.")
    add_data(parser, required=False)


def run_apply(args):
    _check_ending(args.out, ".keras")
    writable(args.out, args.overwrite)
    plan, model = load_plan(args), load_model(args)
    if args.data:
        train = load_data(args, model, targets=False).train
        small = compress(model, plan, calibration=train)
        recalibrate(small, train)
    else:
        small = compress(model, plan)
    with replacing(args.out) as new:
        small.save(new)
    before, after = count(model), count(small)
    lines = [
        f"{name:7}{getattr(before, name):>16,} -> {getattr(after, name):>16,}"
        for name in SHOWN
    ]
    costs = {x: [getattr(before, x), getattr(after, x)] for x in SHOWN}
    return Result(
        "\n".join([*lines, f"Written: {args.out}"]),
        {"file": args.out, "costs": costs},
    )


def add_export(commands):
    parser = add_command(
        commands,
        "export",
        "MODEL OUT",
        run_export,
        "Export a model; the file is verified before it is written.",
        [
            "keras-df export small.keras small.tflite",
            "keras-df export small.keras small.tflite --quantize int8 "
            "--data train.npz",
            "keras-df export small.keras small.onnx",
            "keras-df export small.keras saved_model_folder",
        ],
    )
    add_model(parser)
    parser.add_argument(
        "out",
        help="File ending in .tflite or .onnx, or a folder for a SavedModel.",
    )
    add_overwrite(parser)
    add_quantize(parser)
    add_data(parser, required=False)


def run_export(args):
    kind = os.path.splitext(args.out)[1]
    write = {".tflite": _litert, ".onnx": _onnx, "": _saved_model}.get(kind)
    if write is None:
        raise UsageError(
            f"'{args.out}' must end in .tflite or .onnx, or have no ending, "
            "for the folder of a SavedModel."
        )
    if kind != ".tflite" and (args.quantize != "float32" or args.data):
        raise UsageError("--quantize and --data are for .tflite files.")
    if args.quantize == "int8" and not args.data:
        raise UsageError(
            "--quantize int8 needs the range of every activation: name "
            "training data in --data."
        )
    writable(args.out, args.overwrite)
    difference = write(args, load_model(args))
    return Result(
        f"Written: {args.out}. Largest difference from Keras: {difference:.3g}",
        {"file": args.out, "max_difference": difference},
    )


def _litert(args, model):
    data = None
    if args.data:
        data = load_data(args, model, targets=False).train
    return export.litert(
        model, args.out, quantize=precision(args), calibration=data
    )


def _saved_model(args, model):
    return export.saved_model(model, args.out)


def _onnx(args, model):
    return export.onnx(model, args.out)


def add_report(commands):
    parser = add_command(
        commands,
        "report",
        "MODEL PLAN --out PATH",
        run_report,
        "Write a page on a compression, one HTML file.",
        [
            "keras-df report model.keras plan.json --out report.html",
            "keras-df report model.keras plan.json --outcome report.json "
            "--out report.html",
        ],
    )
    add_model(parser)
    parser.add_argument("plan", help="A plan.json that keras-df wrote.")
    parser.add_argument(
        "--outcome",
        metavar="JSON",
        help="What was measured: the report.json of `keras-df compress`, or "
        "a saved `keras_df.report.Outcome`.",
    )
    add_out(parser, "The .html file to write.")


def run_report(args):
    _check_ending(args.out, ".html")
    writable(args.out, args.overwrite)
    outcome = None
    if args.outcome:
        outcome = read_json(existing(args.outcome), _outcome)
    plan = load_plan(args)
    html(load_model(args), plan, args.out, outcome)
    return Result(
        f"Written: {args.out}", {"file": args.out, "costs": plan.costs}
    )


def _outcome(config):
    if isinstance(config, dict) and "outcome" in config:
        config = config["outcome"]
    return Outcome.from_config(config)


def _check_ending(path, ending):
    if not path.endswith(ending):
        raise UsageError(f"--out must end in {ending}. Received: {path}")
