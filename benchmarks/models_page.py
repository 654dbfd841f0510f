"""The matrix of models as text: a table for each group, and the page of the documentation."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reports import in_words

from tests.matrix.answers import exactness, is_wrong, share_of
from tfprune.tables import markdown

BACKBONES = "KerasHub backbones"
MOST = 0.85  # From this share on most of a model can be pruned.


def table(results: dict) -> str:
    """All groups, one table each.

    Args:
        results: As `benchmarks/models.py` writes them.
    """
    parts = []
    for group, names in results["groups"].items():
        found = {name: results["models"][name] for name in names if name in results["models"]}
        if found:
            parts += [f"## {group}", _rows(found)]
    return "\n\n".join(parts) + "\n"


def _rows(found: dict) -> str:
    columns = ["model", "share", "by kind", "half", "whole", "saved", "exported"]
    rows = []
    for name, answers in found.items():
        kinds = ", ".join(
            f"{kind} {count / answers['weights']:.0%}" for kind, count in answers["kinds"].items()
        )
        half = exactness(answers, "half")
        if answers.get("how") == "in place":
            half += ", in place"
        rows.append(
            [
                name,
                f"{share_of(answers):.0%}",
                kinds or "–",
                half,
                exactness(answers, "whole"),
                exactness(answers, "saved"),
                {"ok": "yes", None: "–"}.get(answers.get("exported"), "no"),
            ]
        )
    return markdown(columns, rows)


def left(found: dict) -> str:
    """For each model of which much is left: the reason that keeps most of it."""
    rows = []
    for name, answers in found.items():
        if share_of(answers) < MOST and answers["left"]:
            reason, count = max(answers["left"].items(), key=lambda item: item[1])
            rows.append([name, f"{count / answers['weights']:.0%}", reason.replace("|", "/")])
    return markdown(["model", "weights", "main reason"], rows)


def failures(models: dict) -> str:
    """What was not exact, not saved or not exported, with the message."""
    rows = []
    for name, answers in models.items():
        for question in ("found", "half", "whole", "again", "saved", "exported"):
            answer = answers.get(question)
            if isinstance(answer, str) and answer not in ("ok", "not", "nothing pruned"):
                rows.append([name, question, answer.replace("|", "/")])
    return markdown(["model", "question", "message"], rows)


def page(results: dict) -> str:
    """The page `docs/results/models.md`.

    Args:
        results: As `benchmarks/models.py` writes them.
    """
    models = results["models"]
    families = [models[name] for name in results["groups"][BACKBONES] if name in models]
    shares = [share_of(answers) for answers in families]
    most = sum(share >= MOST for share in shares)
    mean = sum(shares) / max(len(shares), 1)
    pruned = [answers for answers in models.values() if answers["kinds"]]
    exact = sum(
        exactness(a, "half") == "exact" and exactness(a, "whole") == "exact" for a in pruned
    )
    wrong = [name for name, answers in models.items() if is_wrong(answers)]
    saved = [a for a in pruned if a.get("saved") != "not"]
    tried = [a for a in models.values() if "exported" in a]
    summary = markdown(
        ["question", "answer"],
        [
            [
                f"KerasHub backbones with at least {MOST:.0%} of their weights in structures",
                f"{most} of {len(families)}",
            ],
            ["mean share over all KerasHub backbones", f"{mean:.0%}"],
            ["models in which something can be pruned", f"{len(pruned)} of {len(models)}"],
            ["of these, half and all groups removed exactly", str(exact)],
            [
                "of these, saved and loaded exactly, where the whole model saves and loads",
                f"{sum(exactness(a, 'saved') == 'exact' for a in saved)} of {len(saved)}",
            ],
            [
                "models exported to LiteRT with fixed sizes",
                f"{sum(a.get('exported') == 'ok' for a in tried)} of {len(tried)}",
            ],
            ["models with other outputs than the masked model", ", ".join(wrong) or "none"],
        ],
    )
    seconds = sum(answers["seconds"] for answers in models.values())
    reasons = []
    for group, names in results["groups"].items():
        found = {name: models[name] for name in names if name in models}
        if any(share_of(a) < MOST and a["left"] for a in found.values()):
            reasons += [f"### {group}", left(found)]
    return (
        f"""# Models

What can be pruned of very different models, and is it exact? `benchmarks/models.py` makes each of
them from a tiny configuration with random weights and asks:

- **share**: how many of its weights, without embeddings, lie in structures that
  `find_structures` finds; and by which kind
- **half**: half of the groups of every structure are set to zero; does `rebuild` give the outputs
  of that model? *In place* where it cannot be copied and `rebuild(model, in_place=True)` is needed
- **whole**: the same with all groups
- **saved**: is the rebuilt model the same after saving and loading? *Not* where the whole model
  itself does not save and load
- **exported**: does `tfprune.export` with fixed sizes write a LiteRT file that gives the same
  outputs?

*Exact* means a relative error below 1e-4. A dash means that there is nothing to prune, or that it
was not asked. The models under *tutorials* are written as tutorials write them; nothing in tfprune
was made for one of them.

{summary}

{table(results)}
## What is left

For models with less than {MOST:.0%} of their weights in structures, the reason that keeps most of
the others, as `find_structures` gives it. *Weights* is the share of what is kept for that reason.

"""
        + "\n\n".join(reasons)
        + f"""

## What did not work

{failures(models)}

{in_words(results)}; {seconds / 60:.0f} minutes, one model at a time. Raw numbers:
[models.json](../../benchmarks/results/models.json),
[models.md](../../benchmarks/results/models.md).
"""
    )
