"""The command that does it all: compress."""

import functools
import os

import keras

from keras_df.cli.console import Result
from keras_df.cli.console import UsageError
from keras_df.cli.data import load_data
from keras_df.cli.folder import check_folder
from keras_df.cli.inspection import check_timing
from keras_df.cli.options import load_model
from keras_df.cli.options import make_budget
from keras_df.cli.options import make_constraints
from keras_df.cli.parser import add_budget
from keras_df.cli.parser import add_command
from keras_df.cli.parser import add_data
from keras_df.cli.parser import add_model
from keras_df.cli.parser import add_out
from keras_df.cli.parser import add_quantize
from keras_df.cli.parser import add_timing
from keras_df.cli.pipeline import FILES
from keras_df.cli.pipeline import compress_to
from keras_df.cli.pipeline import keep
from keras_df.cli.task import CROSSENTROPIES
from keras_df.cli.task import REGRESSIONS
from keras_df.cli.task import find_task
from keras_df.export.verification import require_tensorflow
from keras_df.files import replacing_folder
from keras_df.report import Outcome
from keras_df.search import SearchModel


def add_compress(commands):
    parser = add_command(
        commands,
        "compress",
        "MODEL --data DATA --out PATH",
        run_compress,
        "Search what to remove from a model, remove it, fine-tune, export.",
        [
            "keras-df compress model.keras --data train.npz --budget 0.5 "
            "--out small",
            "keras-df compress model.keras --data cifar10 --data_dir ~/tfds "
            "--resource macs --out small",
            "keras-df compress model.keras --data photos/ --scale 0.00784314 "
            "--offset -1 --quantize int8 --out small",
            "keras-df compress model.keras --data train.npz --resource "
            "latency --budget 0.6 --round_to 8 --out small",
        ],
    )
    add_model(parser)
    add_out(parser, "The folder to write: " + ", ".join(FILES) + ".")
    add_data(parser, required=True)
    add_budget(parser, default=0.5)
    _add_training(parser)
    add_quantize(parser)
    add_timing(parser)


def _add_training(parser):
    group = parser.add_argument_group("search and fine-tuning")
    group.add_argument(
        "--search_steps", type=int, default=300, help="Steps of the search."
    )
    group.add_argument(
        "--search_epochs",
        type=int,
        help="Passes over the data, in place of --search_steps.",
    )
    group.add_argument(
        "--search_learning_rate",
        type=float,
        default=1e-2,
        help="Adam's, for masks and thresholds.",
    )
    group.add_argument(
        "--finetune_epochs",
        type=int,
        default=5,
        help="Passes over the data after the surgery.",
    )
    group.add_argument(
        "--learning_rate",
        type=float,
        default=0.02,
        help="The largest of the fine-tuning, after its warm-up.",
    )
    group.add_argument(
        "--teacher",
        choices=["original", "none"],
        default="original",
        help="Whether fine-tuning also learns the original's outputs.",
    )
    group.add_argument(
        "--loss",
        choices=[*CROSSENTROPIES, *REGRESSIONS],
        help="By default what the model's last activation and the targets "
        "call for.",
    )
    logits = group.add_mutually_exclusive_group()
    logits.add_argument(
        "--from_logits",
        action="store_true",
        default=None,
        help="The model returns logits; by default if it ends linearly.",
    )
    logits.add_argument(
        "--no_from_logits",
        action="store_false",
        default=None,
        dest="from_logits",
        help="The model returns probabilities.",
    )


def run_compress(args):
    require_tensorflow("keras-df compress")
    _check(args)
    constraints = make_constraints(args)
    model = load_model(args)
    check_folder(args.out, FILES, args.overwrite)
    rescue = functools.partial(keep, args)
    with replacing_folder(args.out, rescue) as folder:
        data = load_data(args, model)
        task = find_task(args, model, data)
        keras.utils.set_random_seed(args.seed)
        budget = make_budget(args, model, args.threads)
        search = SearchModel(model, budget, constraints)
        report = compress_to(folder, args, model, search, task, data)
    files = {name: os.path.join(args.out, name) for name in FILES}
    values = {**report, "files": files}
    values["outcome"] = {**report["outcome"], "history": {}}
    return Result(_text(args, report), values)


def _check(args):
    check_timing(args)
    for name in ("search_steps", "search_epochs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UsageError(f"--{name} must be positive.")
    for name in ("search_learning_rate", "learning_rate"):
        if not getattr(args, name) > 0:
            raise UsageError(f"--{name} must be positive.")
    if args.finetune_epochs < 0:
        raise UsageError("--finetune_epochs must not be negative.")


def _text(args, report):
    outcome = Outcome.from_config(report["outcome"])
    rows = [(name, *pair) for name, pair in report["costs"].items()]
    rows.append(("bytes", *outcome.size.values()))
    lines = [
        f"{name:12}{before:>16,} -> {after:>14,}  {before / max(after, 1):.2f}x"
        for name, before, after in rows
    ]
    before, after = (x.median for x in outcome.latency.values())
    lines.append(
        f"{'ms':12}{before:>16.3f} -> {after:>14.3f}  {before / after:.2f}x"
    )
    lines += [
        f"{outcome.metric}, {label}: {value:.4f}"
        for label, value in outcome.accuracy.items()
    ]
    lines += [f"note: {note}" for note in report["notes"]]
    return "\n".join([*lines, f"Written: {args.out}"])
