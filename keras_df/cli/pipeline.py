"""What `keras-df compress` does, from the search to the report."""

import contextlib
import dataclasses
import os
import time

import keras

from keras_df.cli.console import say
from keras_df.cli.console import verbosity
from keras_df.cli.options import precision
from keras_df.export import benchmark
from keras_df.export import litert
from keras_df.files import replacing
from keras_df.files import write_json
from keras_df.report import Outcome
from keras_df.report import SearchRecorder
from keras_df.report import html
from keras_df.surgery import compress
from keras_df.surgery import fine_tune
from keras_df.surgery import recalibrate
from keras_df.version import __version__

FILES = (
    "plan.json",
    "small.keras",
    "small.tflite",
    "report.html",
    "report.json",
)
"""What the command writes into its folder."""
KEPT = ("plan.json", "small.keras")
"""What took long to make, and outlives a failure."""


def compress_to(folder, args, model, search, task, data):
    """Searches, compresses, fine-tunes, and writes the files.

    Args:
        folder: Path of an empty folder to write to.
        args: The parsed flags.
        model: The original model.
        search: `SearchModel` of it.
        task: `Task`.
        data: `Data`.

    Returns:
        The report, a dict of plain values.
    """
    clock = _Clock()
    old, new = (
        os.path.join(folder, f"{x}.tflite") for x in ("original", "small")
    )
    # What cannot be exported is better known before a long search.
    for quantize in dict.fromkeys((precision(args), None)):
        litert(model, old, quantize, data.train)
    scores = {"original": task.evaluate(model, data.test)}
    say(args, f"Searching; the original has {_scored(task, scores)}")
    with clock.measure("search"):
        recorder = _search(args, search, task, data)
    plan = search.plan()
    plan.save(os.path.join(folder, "plan.json"))
    small = compress(model, plan, calibration=data.train)
    recalibrate(small, data.train)
    scores["recalibrated"] = task.evaluate(small, data.test)
    if args.finetune_epochs:
        say(args, f"Fine-tuning; it has {_scored(task, scores)}")
        with clock.measure("fine_tuning"):
            teacher = model if args.teacher == "original" else None
            _fine_tune(args, small, teacher, task, data)
        scores["fine-tuned"] = task.evaluate(small, data.test)
    with replacing(os.path.join(folder, "small.keras")) as path:
        small.save(path)
    say(args, f"Exporting and timing; it has {_scored(task, scores)}")
    difference = litert(small, new, precision(args), data.train)
    sizes, timings = _measure(args, old, new)
    os.remove(old)
    outcome = Outcome(scores, timings, sizes, recorder.history, task.metric)
    html(model, plan, os.path.join(folder, "report.html"), outcome)
    report = {
        "keras_df": __version__,
        "model": args.model,
        "data": args.data,
        "budget": plan.budget,
        "costs": {name: list(pair) for name, pair in plan.costs.items()},
        "notes": plan.notes,
        "tflite_max_difference": difference,
        "seconds": clock.seconds,
        "outcome": outcome.get_config(),
    }
    write_json(os.path.join(folder, "report.json"), report)
    return report


def _scored(task, scores):
    return f"{task.metric} {list(scores.values())[-1]:.4f}"


def keep(args, folder):
    """Moves the plan and the network out of a folder that is to go."""
    moment = time.strftime("%Y%m%d-%H%M%S")
    for name in KEPT:
        done = os.path.join(folder, name)
        if os.path.exists(done):
            stem, ending = os.path.splitext(name)
            path = f"{os.path.abspath(args.out)}-{stem}-{moment}{ending}"
            os.replace(done, path)
            say(args, f"What was done is kept in '{path}'.")


def _search(args, search, task, data):
    steps = args.search_steps
    if args.search_epochs:
        steps = args.search_epochs * data.steps
    task.compile(search, keras.optimizers.Adam(args.search_learning_rate))
    recorder = SearchRecorder()
    search.fit(
        data.train.repeat(),
        steps_per_epoch=steps,
        shuffle=False,
        verbose=verbosity(args),
        callbacks=[recorder],
    )
    return recorder


def _fine_tune(args, small, teacher, task, data):
    fine_tune(
        small,
        data.train,
        task.make_loss(),
        epochs=args.finetune_epochs,
        learning_rate=args.learning_rate,
        teacher=teacher,
        metrics=[task.make_metric()],
        shuffle=False,
        verbose=verbosity(args),
    )


def _measure(args, old, new):
    """Sizes and latencies of the original's file and the small one."""
    labels = ("original", "compressed")
    if args.quantize != "float32":
        labels = ("original, float32", f"compressed, {args.quantize}")
    timings = benchmark(old, new, threads=args.threads, repeats=args.repeats)
    timings = [
        dataclasses.replace(x, filepath=os.path.basename(x.filepath))
        for x in timings
    ]
    sizes = [os.path.getsize(path) for path in (old, new)]
    return dict(zip(labels, sizes)), dict(zip(labels, timings))


class _Clock:
    """Seconds that parts of the work took."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def measure(self, name):
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)
