"""What can be pruned of very different models, and is it exact? The matrix of models.

    python benchmarks/models.py
    python benchmarks/models.py --only Bert ViT
    python benchmarks/models.py --no-export
    python benchmarks/models.py --smoke

Each model of `tests/matrix` is made from a tiny configuration and searched; half and all of its
groups are removed, the result is compared, saved, loaded, exported to LiteRT, and pruned again. A
process checks some models and ends, so that memory stays bounded. Results are written after each
model; what is there already is not run again unless `--only` names it. `--fresh` begins anew.
Exporting takes half of the time; models that were not exported are run again without `--no-export`.
Writes benchmarks/results/models.* and docs/results/models.md
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


def check_here(names: list[str], exported: bool) -> None:
    """Checks models in this process, and prints a line of JSON for each.

    Args:
        names: The models. None lists all of them by group instead.
        exported: Whether they are exported too.
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
            print(json.dumps({name: check(members[name], exported)}), flush=True)
            keras.backend.clear_session()
            gc.collect()


def process(names: list[str], exported: bool = True):
    """The lines of JSON that a process of its own prints.

    Args:
        names: As in `check_here`.
        exported: Likewise.

    Raises:
        SystemExit: If it dies.
    """
    command = [sys.executable, __file__, "--here", *names]
    if not exported:
        command.append("--no-export")
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
    parser.add_argument("--no-export", action="store_true", help="half of the time")
    parser.add_argument("--here", nargs="*", help="for the processes that this script starts")
    args = parser.parse_args()
    if args.here is not None:
        check_here(args.here, not args.no_export)
        return
    if args.smoke:
        smoke_folder()
        args.only = args.only or ["MLP-Mixer"]
    path = result("models.json")
    shown = result("models_page.md") if args.smoke else ROOT / "docs" / "results" / "models.md"
    groups = next(process([]))
    known = [name for members in groups.values() for name in members]
    if unknown := set(args.only or ()) - set(known):
        parser.error(f"There are no models {', '.join(sorted(unknown))}.")
    done = json.loads(path.read_text())["models"] if path.exists() and not args.fresh else {}
    full = {name for name in done if args.no_export or "exported" in done[name]}
    left = args.only or [name for name in known if name not in full]
    for start in range(0, len(left), CHUNK):
        for checked in process(left[start : start + CHUNK], not args.no_export):
            done.update(checked)
            results = {
                **about(__file__, "keras-hub"),
                "groups": groups,
                "models": {name: done[name] for name in known if name in done},
            }
            write("models", results, table(results))
            print(*checked, flush=True)
    if path.exists():
        # Also where nothing was left to run: the page may be laid out in another way.
        results = json.loads(path.read_text())
        write("models", results, table(results))
        shown.write_text(page(results))


if __name__ == "__main__":
    main()
