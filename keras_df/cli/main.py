"""main: one command line, its errors and its output."""

import contextlib
import json
import logging as python_logging
import os
import signal
import sys
import threading

from absl import logging

from keras_df.cli.compression import add_compress
from keras_df.cli.console import UsageError
from keras_df.cli.conversion import add_apply
from keras_df.cli.conversion import add_export
from keras_df.cli.conversion import add_report
from keras_df.cli.inspection import add_benchmark
from keras_df.cli.inspection import add_count
from keras_df.cli.inspection import add_inspect
from keras_df.cli.parser import Parser
from keras_df.version import __version__

EPILOG = """examples:
  keras-df inspect model.keras
  keras-df compress model.keras --data train.npz --budget 0.5 --out small
  keras-df export model.keras original.tflite
  keras-df benchmark original.tflite small/small.tflite
  keras-df compress --help

exit status: 0 if all went well, 1 if the work failed, 2 if the command line
is wrong (an unknown flag, a file that is not there, an output that is)"""
COMMANDS = (
    add_inspect,
    add_count,
    add_compress,
    add_apply,
    add_export,
    add_benchmark,
    add_report,
)


def make_parser():
    """Returns the parser of the whole command line."""
    parser = Parser(
        prog="keras-df",
        description="Make trained Keras models smaller and faster.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--version", action="version", version=f"keras-df {__version__}"
    )
    commands = parser.add_subparsers(
        metavar="command", dest="command", required=True
    )
    for add in COMMANDS:
        add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command line.

    Results go to stdout, all else to stderr.

    Args:
        argv: List of strings, the arguments without the program's name; by
            default those that Python was started with.

    Returns:
        Exit status: 0 if all went well, 1 if the work failed, 2 if the
        command line is wrong.

    Example:

    >>> keras_df.cli.main(["count", "model.keras"])
    """
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code
    try:
        with (
            _termination_interrupts(),
            _quiet_libraries(),
            contextlib.redirect_stdout(sys.stderr),
        ):
            result = args.run(args)
    except KeyboardInterrupt:
        return _fail(args, "interrupted", 130)
    except UsageError as error:
        return _fail(args, error, 2)
    except Exception as error:
        if args.traceback:
            raise
        return _fail(args, str(error) or type(error).__name__, 1)
    return _show(json.dumps(result.values) if args.json else result.text)


def _show(text):
    """Prints to whom may have gone, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(args, error, status):
    message = " ".join(str(error).split())
    print(f"keras-df {args.command}: {message}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _termination_interrupts():
    """Lets SIGTERM do what Ctrl-C does, so that files are put in order."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python takes signals in its main thread alone.
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def _quiet_libraries():
    """Shows errors of TensorFlow and absl only."""
    loggers = [python_logging.getLogger(name) for name in ("tensorflow",)]
    loggers.append(logging.get_absl_logger())
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(python_logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
