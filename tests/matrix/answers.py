"""How the results of `checking.check` are read. Needs no Keras."""

from __future__ import annotations

EXACT = 1e-4  # Above this relative error two outputs are not the same.
NOT_ALIKE = "not alike"  # Other shapes, or numbers that are not finite in one of the two.
QUESTIONS = ("half", "whole", "saved", "again")


def share_of(answers: dict) -> float:
    """The share of the weights, without embeddings, that lies in structures."""
    return sum(answers["kinds"].values()) / max(answers["weights"], 1)


def exactness(answers: dict, question: str) -> str:
    """One of the questions in a word."""
    answer = answers.get(question)
    if answer in (None, "nothing pruned"):
        return "–"
    if isinstance(answer, float | int):
        return "exact" if answer <= EXACT else f"{answer:.0e}"
    return answer if answer in ("not", NOT_ALIKE) else "raises"


def is_wrong(answers: dict) -> list[str]:
    """The questions whose answer is other outputs than those of the masked model.

    `rebuild` raises `RuntimeError` where it sees that itself.
    """
    return [
        question
        for question in QUESTIONS
        if exactness(answers, question) not in ("–", "exact", "raises", "not")
        or str(answers.get(question)).startswith("RuntimeError")
    ]


def lost(before: dict, now: dict, tolerance: float = 0.005) -> list[str]:
    """What a model could before and cannot now.

    Args:
        before: Earlier answers.
        now: Present ones; a question that was not asked is not lost.
        tolerance: By how much the share may be smaller.
    """
    found = [f"found: {now['found']}"] if "found" in now and "found" not in before else []
    if share_of(now) < share_of(before) - tolerance:
        found.append(f"share {share_of(before):.3f}, now {share_of(now):.3f}")
    for question in QUESTIONS:
        if exactness(before, question) == "exact" and exactness(now, question) != "exact":
            found.append(f"{question} was exact, now {now.get(question)}")
    if before.get("exported") == "ok" and now.get("exported", "ok") != "ok":
        found.append(f"was exported, now {now['exported']}")
    return found
