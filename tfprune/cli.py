"""The command line, `tfprune <command>`.

Keras and TensorFlow take seconds to import, so each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tfprune import __version__, commands
from tfprune.native_messages import LEVEL, shown_if_killed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words after `tfprune`; those of the process by default.

    Returns:
        0, or 1 if the input was bad; the reason goes to standard error.

    Raises:
        SystemExit: With 2 if the arguments are not those of a command, with 0 after `--help`.
    """
    options = _parser().parse_args(arguments)
    try:
        with _native_notes_in_a_file(), _warnings_in_a_line():
            _run(options)
    except Exception as error:
        if options.debug:
            raise
        # TensorFlow's converter writes pages.
        text = " ".join(str(error).split()) or type(error).__name__
        text = text if len(text) < 1000 else f"{text[:1000]} …"
        if not isinstance(error, (ValueError, RuntimeError, OSError, ImportError, MemoryError)):
            # What no check of ours has foreseen.
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        print(f"tfprune: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tfprune: stopped; run the same command to go on", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _warnings_in_a_line():
    """Shows warnings as errors are shown: there is no program of the user's to point into."""

    def show(message, *_, **__):
        print(f"tfprune: warning: {' '.join(str(message).split())}", file=sys.stderr)

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = before


def _run(options: argparse.Namespace) -> None:
    """Runs a command and prints what it returns."""
    commands.import_all(getattr(options, "imports", ()))
    if not getattr(options, "json", False):
        result = options.run(options)
        if result is not None:
            print(result)
        return
    # Progress, of Keras too, is not for the program that reads standard output.
    with redirect_stdout(sys.stderr):
        result = options.run(options)
    print(json.dumps(result.to_dict(), indent=1))


@contextmanager
def _native_notes_in_a_file():
    """Keeps what TensorFlow's native code writes to standard error out of the progress display.

    Python's own standard error, with warnings and tracebacks, stays where it is. If the process
    dies, the end of the file is shown.
    """
    from tfprune.datasets.cache import cache_folder

    level = os.environ.get(LEVEL)
    os.environ.setdefault(LEVEL, "0")  # What goes to a file may be verbose.
    log = cache_folder() / "tensorflow.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError:
        log = Path(os.devnull)
        file = os.open(log, os.O_WRONLY)
    python_stream, terminal = sys.stderr, os.dup(2)
    try:
        with shown_if_killed(log), os.fdopen(os.dup(terminal), "w", buffering=1) as stream:
            os.dup2(file, 2)
            os.close(file)
            if python_stream is sys.__stderr__:
                sys.stderr = stream
            yield
    finally:
        sys.stderr = python_stream
        os.dup2(terminal, 2)
        os.close(terminal)
        if level is None:
            del os.environ[LEVEL]


_EXAMPLES = {
    "inspect": "tfprune inspect model.keras",
    "prune": "tfprune prune model.keras small.keras --target 'flops 50%' --data inputs.npz",
    "rebuild": "tfprune rebuild pruned.keras small.keras",
    "export": "tfprune export small.keras small.tflite --quantize dynamic_int8",
    "measure": "tfprune measure model.keras small.keras --quantize dynamic_int8",
    "compare": "tfprune compare model.keras small.keras --sequence-length 64",
    "demo": "tfprune demo --fast",
    "translate": "tfprune translate saved_models/help_en_de_pruned_int8.tflite 'Select the cells.'",
}


class _Version(argparse.Action):
    """Prints the versions of what matters, without importing it."""

    def __init__(self, option_strings, dest, help=None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser, *_):
        """As argparse calls it."""
        print(f"tfprune {__version__}, Python {platform.python_version()}, {platform.platform()}")
        print(f"KERAS_BACKEND {os.environ.get('KERAS_BACKEND', 'not set')}")
        for package in ("keras", "tensorflow", "jax", "ai-edge-litert", "keras-hub", "numpy"):
            try:
                print(f"{package} {version(package)}")
            except PackageNotFoundError:
                print(f"{package} not installed")
        parser.exit()


def _positive(text: str) -> int:
    """A number of an option, as argparse converts it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer. Received: {text!r}")
    return int(text)


def _sizes(command: Any, **defaults: int | None) -> None:
    """Adds the options of the sizes of inputs, and of LiteRT's threads."""
    by_default = {k: "" if v is None else " (%(default)s)" for k, v in defaults.items()}
    for name, text in (
        ("batch_size", "size of the first axis, where the model leaves it open"),
        ("sequence_length", "size of its other open axes"),
        ("threads", "threads of LiteRT"),
        ("runs", "how often each is timed"),
    ):
        if name in defaults:
            option = f"--{name.replace('_', '-')}"
            default, help = defaults[name], text + by_default[name]
            command.add_argument(option, type=_positive, metavar="N", default=default, help=help)


_TIMED_AS = (
    "format of the LiteRT files as which .keras models are timed, float by default; ranges for "
    "int8 are measured on made-up inputs"
)


def _quantize(command: Any, text: str) -> None:
    command.add_argument("--quantize", choices=["float16", "dynamic_int8", "int8"], help=text)


def _json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="print JSON and nothing else")


def _parser():
    parser = argparse.ArgumentParser(
        prog="tfprune",
        description="Make Keras 3 models physically smaller.",
        epilog="TensorFlow's own notes go to tensorflow.log in ~/.cache/tfprune or $TFPRUNE_CACHE.",
    )
    parser.add_argument("--version", action=_Version, help="versions, for a report of an error")
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    added = parser.add_subparsers(required=True, metavar="command")

    def command(name, run, text):
        made = added.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example: {_EXAMPLES[name]}",
        )
        made.set_defaults(run=run)
        if name not in ("demo", "translate"):
            made.add_argument(
                "--import",
                action="append",
                default=[],
                dest="imports",
                metavar="MODULE",
                help="a module or a .py file that defines layers of your own; may be repeated",
            )
        return made

    inspect = command(
        "inspect",
        commands.inspect,
        "List what can be removed from a model, what is zero, and what not.",
    )
    inspect.add_argument("model", help="a .keras file")
    _json(inspect)

    prune = command("prune", commands.prune, "Make a model smaller without training it.")
    prune.add_argument("model", help="a .keras file")
    prune.add_argument("output", help="the smaller .keras file")
    prune.add_argument(
        "--target",
        required=True,
        help="how far: 'sparsity 50%%' of the weights of units and heads go; 'parameters 40%%' or "
        "'flops 60%%' of the whole model stay",
    )
    prune.add_argument(
        "--data",
        required=True,
        help="an .npz file of inputs: one array x, or one for each input under its name; labels y "
        "and sample_weight may be there too",
    )
    prune.add_argument(
        "--criterion",
        help="such as reconstruction, activation, or gradient_importance, which needs y; by "
        "default the first with --repair least_squares, else the third where it can be had",
    )
    prune.add_argument(
        "--repair",
        choices=["least_squares", "bias", "nothing"],
        default="least_squares",
        help="what is fitted to the groups that stay (%(default)s)",
    )
    prune.add_argument(
        "--within",
        choices=["kind", "layer", "model", "error"],
        help="what is compared: kind and layer remove the same share from each, model ranks all "
        "groups together, error makes the sum of the errors of all layers least; by default error "
        "for reconstruction, kind for gradient_importance, else layer",
    )
    prune.add_argument(
        "--examples",
        type=_positive,
        metavar="N",
        default=512,
        help="how many to use (%(default)s)",
    )
    prune.add_argument(
        "--sequence-length",
        type=_positive,
        metavar="N",
        help="size of the open axes of inputs where FLOPs are counted; by default what they have "
        "in the data, or 128 where that cannot be told, as of text",
    )
    _json(prune)

    rebuild = command("rebuild", commands.rebuild, "Cut what has been pruned out of a model.")
    rebuild.add_argument("model", help="a .keras file whose pruned weights are zero")
    rebuild.add_argument("output", help="the smaller .keras file")

    export = command("export", commands.export, "Write a SavedModel or a LiteRT file.")
    export.add_argument("model", help="a .keras file")
    export.add_argument("output", help="a .tflite file, or a folder for a SavedModel")
    _quantize(
        export, "weights of half or a quarter of the size, or int8 activations too (.tflite only)"
    )
    export.add_argument(
        "--data",
        help="an .npz file of inputs, as for prune: int8 needs it, and whatever is written is "
        "compared with the model on them",
    )
    export.add_argument("--integer-io", action="store_true", help="int8: integers in and out too")
    export.add_argument(
        "--strict", action="store_true", help="int8: refuse operations that would stay float"
    )
    _sizes(export, batch_size=None, sequence_length=None)

    measure = command("measure", commands.measure, "Time models in LiteRT, in turn.")
    measure.add_argument("models", nargs="+", help=".tflite or .keras files")
    _sizes(measure, batch_size=1, sequence_length=128, threads=1, runs=30)
    _quantize(measure, _TIMED_AS)
    _json(measure)

    compare = command("compare", commands.compare, "Say what one model has become in another.")
    compare.add_argument("before", help="a .keras file")
    compare.add_argument("after", help="the smaller .keras file")
    _sizes(compare, batch_size=1, sequence_length=128, threads=1)
    _quantize(compare, _TIMED_AS)
    compare.add_argument("--no-latency", action="store_true", help="do not time them in LiteRT")
    _json(compare)

    demo = command("demo", commands.demo, "Train, prune and export a translator; about 22 minutes.")
    demo.add_argument("--fast", action="store_true", help="number words, about three minutes")
    demo.add_argument("--folder", default="saved_models", help="where files go (%(default)s)")

    translate = command("translate", commands.translate, "Translate text with a saved translator.")
    translate.add_argument("model", help="a .keras or .tflite file or a SavedModel folder")
    translate.add_argument("text", nargs="*", help="sentences; standard input if none is given")
    return parser


if __name__ == "__main__":
    sys.exit(main())
