"""The command line: `tfprune inspect | prune | rebuild | export | measure | demo | translate`.

Keras and TensorFlow take seconds to import, so each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from tfprune.native_messages import LEVEL, shown_if_killed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words after `tfprune`; those of the process by default.

    Returns:
        0, or 1 if the input was bad; the reason goes to standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        with _native_notes_in_a_file():
            options.run(options)
    except (ValueError, RuntimeError, OSError, ImportError, MemoryError) as error:
        # TensorFlow's converter writes pages.
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"tfprune: {text if len(text) < 1000 else text[:1000] + ' …'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tfprune: stopped; run the same command to go on", file=sys.stderr)
        return 130
    return 0


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


def _parser():
    parser = argparse.ArgumentParser(
        prog="tfprune",
        description="Make Keras 3 models physically smaller.",
        epilog="TensorFlow's own notes go to tensorflow.log in ~/.cache/tfprune or $TFPRUNE_CACHE.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name, run, text):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    inspect = command("inspect", _inspect, "List what can be removed from a model, and what not.")
    inspect.add_argument("model", help="a .keras file")

    prune = command("prune", _prune, "Make a model smaller without training it.")
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
    prune.add_argument("--examples", type=int, default=512, help="how many to use (%(default)s)")

    rebuild = command("rebuild", _rebuild, "Cut what has been pruned out of a model.")
    rebuild.add_argument("model", help="a .keras file whose pruned weights are zero")
    rebuild.add_argument("output", help="the smaller .keras file")

    export = command("export", _export, "Write a SavedModel or a LiteRT file.")
    export.add_argument("model", help="a .keras file")
    export.add_argument("output", help="a .tflite file, or a folder for a SavedModel")
    export.add_argument(
        "--quantize",
        choices=["float16", "dynamic_int8"],
        help="weights of half or a quarter of the size (.tflite only)",
    )
    export.add_argument("--batch-size", type=int, help="size of the first axis, if it is open")
    export.add_argument("--sequence-length", type=int, help="size of other open axes")

    measure = command("measure", _measure, "Time models in LiteRT, in turn.")
    measure.add_argument("models", nargs="+", help=".tflite or .keras files")
    measure.add_argument("--batch-size", type=int, default=1)
    measure.add_argument("--sequence-length", type=int, default=128)
    measure.add_argument("--threads", type=int, default=1)
    measure.add_argument("--runs", type=int, default=30)

    demo = command("demo", _demo, "Train, prune and export a translator; about 20 minutes.")
    demo.add_argument("--fast", action="store_true", help="number words, about three minutes")
    demo.add_argument("--folder", default="saved_models", help="where files go (%(default)s)")

    translate = command("translate", _translate, "Translate text with a saved translator.")
    translate.add_argument("model", help="a .keras or .tflite file or a SavedModel folder")
    translate.add_argument("text", nargs="*", help="sentences; standard input if none is given")
    return parser


def _load(path):
    from tfprune.files import load_keras

    return load_keras(path)


def _inspect(options):
    import tfprune

    print(tfprune.find_structures(_load(options.model)))


def _prune(options):
    import tfprune
    from tfprune.budgets.reading import target_in_words
    from tfprune.files import atomic_write, load_arrays

    target = target_in_words(options.target)
    data = _as_fit_takes_it(load_arrays(options.data))
    small = tfprune.prune(
        _load_compiled(options.model),
        target,
        data,
        criterion=options.criterion,
        repair=None if options.repair == "nothing" else options.repair,
        within=options.within,
        examples=options.examples,
    )
    with atomic_write(options.output) as temporary:
        small.save(temporary)


def _load_compiled(path):
    """A model, compiled if that can be done: a loss of one's own may be unknown here."""
    from tfprune.files import load_keras

    try:
        return load_keras(path, compiled=True)
    except ValueError:
        return load_keras(path)


def _as_fit_takes_it(arrays):
    x = {name: array for name, array in arrays.items() if name not in ("y", "sample_weight")}
    parts = (x["x"] if set(x) == {"x"} else x, arrays.get("y"), arrays.get("sample_weight"))
    return parts if "y" in arrays else parts[0]


def _rebuild(options):
    import tfprune
    from tfprune.files import atomic_write

    before = _load(options.model)
    after = tfprune.rebuild(before)
    with atomic_write(options.output) as temporary:
        after.save(temporary)
    print(tfprune.compare(before, after, latency=False))


def _export(options):
    import tfprune

    path = tfprune.export(
        _load(options.model),
        options.output,
        options.quantize,
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
    )
    print(f"{path} written and checked")


def _measure(options):
    import tfprune

    models = [_load(m) if m.endswith(".keras") else m for m in options.models]
    timed = tfprune.compare_latency(
        models,
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
        threads=options.threads,
        runs=options.runs,
    )
    for name, latency, ratio in zip(options.models, timed.latencies, timed.ratios, strict=True):
        print(f"{name}: {latency}; {ratio:.2f} of the first")


def _demo(options):
    from tfprune.demo import demo

    demo(options.folder, options.fast)


def _translate(options):
    from tfprune.translation.loading import load_translator

    sentences = options.text or [line.rstrip("\n") for line in sys.stdin]
    for translation in load_translator(options.model).translate(sentences):
        print(translation)


if __name__ == "__main__":
    sys.exit(main())
