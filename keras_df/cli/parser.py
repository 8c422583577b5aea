"""Flags that several commands share."""

import argparse

from absl.flags import argparse_flags

RESOURCES = ("flops", "macs", "params", "latency")
PRECISIONS = ("float32", "float16", "dynamic", "int8")


class Parser(argparse_flags.ArgumentParser):
    """Reports a wrong command line in one line, with status 2."""

    def __init__(self, **kwargs):
        super().__init__(
            formatter_class=_Formatter,
            # The flags of other modules are not this tool's.
            inherited_absl_flags=None,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Formatter(
    argparse.ArgumentDefaultsHelpFormatter,
    argparse.RawDescriptionHelpFormatter,
):
    """Shows defaults, and examples as they are written."""

    def _get_help_string(self, action):
        if action.default in (None, False, []):
            return action.help
        return super()._get_help_string(action)


def add_command(commands, name, usage, run, summary, examples):
    """Adds a command.

    Args:
        commands: What `add_subparsers` returned.
        name: Name of the command.
        usage: String, the arguments that it needs.
        run: Function from the parsed arguments to a `Result`.
        summary: One sentence on what it does.
        examples: String, lines with examples.

    Returns:
        The command's parser.
    """
    parser = commands.add_parser(
        name,
        usage=f"keras-df {name} {usage} [flags]",
        help=summary,
        description=summary,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples),
    )
    parser.set_defaults(run=run)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--json", action="store_true", help="Print JSON, and nothing else."
    )
    group.add_argument(
        "--quiet", action="store_true", help="Show no progress on stderr."
    )
    group.add_argument(
        "--traceback",
        action="store_true",
        help="Show where an error comes from.",
    )
    return parser


def add_model(parser):
    parser.add_argument(
        "model", help="Trained Functional or Sequential model, a .keras file."
    )


def add_out(parser, help):
    parser.add_argument("--out", required=True, metavar="PATH", help=help)
    add_overwrite(parser)


def add_overwrite(parser):
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace what is there."
    )


def add_budget(parser, default):
    group = parser.add_argument_group("budget and constraints")
    group.add_argument(
        "--budget",
        type=float,
        default=default,
        help="What may remain: a share of at most 1, or an amount above 1 "
        "(for latency, in milliseconds).",
    )
    group.add_argument(
        "--resource",
        choices=RESOURCES,
        default="flops",
        help="What the budget counts.",
    )
    group.add_argument(
        "--latency_table",
        metavar="JSON",
        help="Table measured before; else --resource latency measures one.",
    )
    group.add_argument(
        "--round_to",
        type=int,
        default=1,
        metavar="N",
        help="Kept channels and ranks are multiples of N.",
    )
    group.add_argument(
        "--min_channels",
        type=int,
        default=1,
        metavar="N",
        help="Every layer keeps at least N channels.",
    )
    group.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="LAYER",
        help="Layer to leave alone, by name or pattern; may be repeated.",
    )
    group.add_argument(
        "--no_prune", action="store_true", help="Remove no filters."
    )
    group.add_argument(
        "--no_decompose", action="store_true", help="Decompose no kernels."
    )
    group.add_argument(
        "--scheme",
        type=int,
        choices=[1, 2],
        default=2,
        help="Into what kernels are decomposed: 1, a window and a 1 x 1; 2, "
        "a column and a row.",
    )


def add_data(parser, required):
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        required=required,
        help="A .npz file with arrays x and y (and x_test, y_test), a folder "
        "with one folder of images per class (or with train/ and test/ of "
        "such), or the name of a TensorFlow data set.",
    )
    group.add_argument(
        "--data_dir", help="Folder of prepared TensorFlow data sets."
    )
    group.add_argument(
        "--download",
        action="store_true",
        help="Download the TensorFlow data set if it is not there.",
    )
    group.add_argument(
        "--validation_split",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="What to hold out for testing where the data has no test part.",
    )
    group.add_argument(
        "--batch_size",
        type=int,
        default=64,
        metavar="N",
        help="Samples per batch.",
    )
    group.add_argument(
        "--image_size",
        type=int,
        metavar="PIXELS",
        help="For a model that takes images of any size.",
    )
    group.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="Inputs are multiplied by it, where the model expects them so.",
    )
    group.add_argument(
        "--offset", type=float, default=0.0, help="It is added to them then."
    )
    group.add_argument(
        "--augment",
        action="store_true",
        help="Mirror and shift images at random in training.",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="Seed of everything random."
    )


def add_quantize(parser):
    parser.add_argument(
        "--quantize",
        choices=PRECISIONS,
        default="float32",
        help="Precision of the .tflite file; int8 needs --data.",
    )


def add_timing(parser):
    parser.add_argument(
        "--threads", type=int, default=1, help="Threads to time with."
    )
    parser.add_argument(
        "--repeats", type=int, default=100, help="Interleaved runs to time."
    )
