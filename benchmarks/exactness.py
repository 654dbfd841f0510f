"""Is every rebuilt model the same as the masked one? On very many random models and masks.

    KERAS_BACKEND=tensorflow python benchmarks/exactness.py --cases 7000
    KERAS_BACKEND=jax python benchmarks/exactness.py --cases 3000
    python benchmarks/exactness.py --smoke

The cases are those of `tests/rebuild/test_exactness.py`: each is drawn, pruned, rebuilt, compared,
saved, loaded, compared, and rebuilt again. They come in chunks, each with a seed of its own and in
a process of its own. Results are written after each chunk; what is there already is not run again,
so an interrupted run is resumed by the same command. A failure is noted with what was drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from reports import about, arguments, result, smoke_folder, write

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CHUNK = 200

# JAX compiles each operation for each shape: once for all chunks, and without making it fast.
QUICK = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def run_chunk(seed: int, cases: int) -> dict:
    """Runs one chunk in this process.

    Args:
        seed: Of Hypothesis.
        cases: How many.

    Returns:
        Counts, failures and seconds.
    """
    import hypothesis
    from hypothesis import strategies as st

    from tests.rebuild.checking import check, prunings
    from tests.rebuild.random_models import random_case

    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    failures = []
    started = time.perf_counter()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(data=st.data(), pruning=prunings())
    def run(data, pruning):
        drawn = []

        def draw(strategy):
            drawn.append(data.draw(strategy))
            return drawn[-1]

        try:
            case = random_case(draw)
            with tempfile.TemporaryDirectory() as folder:
                counts[check(case, pruning, Path(folder))] += 1
        except Exception as error:
            if type(error).__module__.startswith("hypothesis"):
                raise
            counts["failed"] += 1
            failures.append(
                {
                    "error": f"{type(error).__name__}: {error}"[:600],
                    "where": traceback.format_exc().strip().splitlines()[-8:],
                    "pruning": repr(pruning),
                    "drawn": repr(drawn),
                }
            )

    run()
    return {
        "seed": seed,
        "cases": sum(counts.values()),
        "outcomes": dict(counts),
        "seconds": round(time.perf_counter() - started, 1),
        "failures": failures,
    }


def summary(results: dict) -> str:
    """The results as a table in Markdown."""
    lines = [
        "| backend | cases | rebuilt | refused | failed | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for backend, chunks in results["chunks"].items():
        outcomes: Counter[str] = Counter()
        for chunk in chunks:
            outcomes.update(chunk["outcomes"])
        rebuilt = sum(n for outcome, n in outcomes.items() if outcome.startswith("rebuilt"))
        refused = sum(n for outcome, n in outcomes.items() if outcome.startswith("refused"))
        minutes = sum(chunk["seconds"] for chunk in chunks) / 60
        lines.append(
            f"| {backend} | {sum(outcomes.values())} | {rebuilt} | {refused} | "
            f"{outcomes['failed']} | {minutes:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="how many, on this backend")
    parser.add_argument("--seeds", type=int, default=0, help="the seed of the first chunk")
    parser.add_argument("--chunk", type=int, help=argparse.SUPPRESS)  # the process of a chunk
    args = parser.parse_args()
    if args.smoke:
        smoke_folder()
        args.cases = 5
    if args.chunk is not None:
        print(json.dumps(run_chunk(args.chunk, args.cases)))
        return

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    with tempfile.TemporaryDirectory() as cache:
        run_chunks(args, {**QUICK, "JAX_COMPILATION_CACHE_DIR": cache, **os.environ}, backend)


def run_chunks(args, environment, backend) -> None:
    """Runs chunks in processes of their own until there are as many cases as are asked for.

    Args:
        args: What the command was given.
        environment: Of the processes.
        backend: Whose results they are.
    """
    path = result("exactness.json")

    def known() -> dict:
        # Read anew each time: the other backend may have written meanwhile.
        return json.loads(path.read_text()) if path.exists() else {"chunks": {}}

    seed, left = args.seeds, args.cases
    while left > 0:
        cases = min(CHUNK, left)
        done = [c for c in known()["chunks"].get(backend, []) if c["seed"] == seed]
        if not done:
            command = [sys.executable, __file__, "--chunk", str(seed), "--cases", str(cases)]
            ended = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=False
            )
            if ended.returncode:
                raise SystemExit(f"The chunk with seed {seed} died:\n{ended.stderr[-3000:]}")
            chunk = json.loads(ended.stdout.strip().splitlines()[-1])
            chunks = known()["chunks"]
            chunks.setdefault(backend, []).append(chunk)
            results = {**about(__file__, "jax", "hypothesis"), "chunks": chunks}
            write("exactness", results, summary(results))
            print(backend, chunk["seed"], chunk["outcomes"], chunk["seconds"], flush=True)
            done = [chunk]
        # Hypothesis may find fewer different cases than it is asked for.
        left -= max(done[0]["cases"], 1)
        seed += 1


if __name__ == "__main__":
    main()
