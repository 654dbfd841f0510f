"""What can be pruned of very different models, and is it exact? The matrix of models.

    python benchmarks/models.py
    python benchmarks/models.py --only Bert ViT
    python benchmarks/models.py --smoke

Each model of `tests/matrix` is made from a tiny configuration and searched; half and all of its
groups are removed, the result is compared, saved, loaded, exported to LiteRT, and pruned again. A
process checks some models and ends, so that memory stays bounded. Results are written after each
model; what is there already with the same commit of tfprune is not run again unless `--only` names
it. `--fresh` begins anew. Writes benchmarks/results/models.* and docs/results/models.md
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from models_page import page, table
from reports import about, arguments, result, smoke_folder, write

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CHUNK = 15  # Models that a process checks.


def check_here(names: list[str]) -> None:
    """Checks models in this process, and prints a line of JSON for each.

    Args:
        names: The models. None lists all of them by group instead.
    """
    import gc

    import keras

    from tests.matrix.checking import check
    from tests.matrix.models import groups

    warnings.simplefilter("ignore")
    models = groups()
    if not names:
        print(json.dumps({group: list(members) for group, members in models.items()}))
        return
    for members in models.values():
        for name in (name for name in names if name in members):
            print(json.dumps({name: check(members[name])}), flush=True)
            keras.backend.clear_session()
            gc.collect()


def process(names: list[str]):
    """The lines of JSON that a process of its own prints.

    Args:
        names: As in `check_here`.

    Raises:
        SystemExit: If it dies.
    """
    command = [sys.executable, __file__, "--here", *names]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as ended:
        for line in ended.stdout:
            # Converters print too.
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)
    if ended.returncode:
        raise SystemExit(f"The process of the models {', '.join(names)} died.")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models, once more")
    parser.add_argument("--fresh", action="store_true", help="all models, once more")
    parser.add_argument("--here", nargs="*", help="for the processes that this script starts")
    args = parser.parse_args()
    if args.here is not None:
        check_here(args.here)
        return
    if args.smoke:
        smoke_folder()
        args.only = args.only or ["MLP-Mixer"]
    path = result("models.json")
    groups = next(process([]))
    known = [name for members in groups.values() for name in members]
    if unknown := set(args.only or ()) - set(known):
        parser.error(f"There are no models {', '.join(sorted(unknown))}.")
    done = json.loads(path.read_text())["models"] if path.exists() and not args.fresh else {}
    left = args.only or [name for name in known if name not in done]
    for start in range(0, len(left), CHUNK):
        for checked in process(left[start : start + CHUNK]):
            done.update(checked)
            results = {
                **about(__file__, "keras-hub"),
                "groups": groups,
                "models": {name: done[name] for name in known if name in done},
            }
            write("models", results, table(results))
            print(*checked, flush=True)
    if path.exists():
        shown = result("models_page.md") if args.smoke else ROOT / "docs" / "results" / "models.md"
        shown.write_text(page(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
