"""Numbers in words: endless parallel text that needs no download."""

from __future__ import annotations

import random

from tfprune.datasets.parallel import ParallelText
from tfprune.extras import require


def number_words(
    source: str = "en",
    target: str = "de",
    count: int = 20_000,
    limit: int = 1_000_000,
    seed: int = 0,
) -> ParallelText:
    """Numbers spelled out in two languages, such as "forty-two" and "zweiundvierzig".

    A small translator learns them in minutes, although word order differs.

    Args:
        source: Language code that num2words knows.
        target: Language code that num2words knows.
        count: How many numbers, at least 20. A tenth goes to development, a tenth to testing.
        limit: Numbers lie between 0 and `limit`, small and large ones alike.
        seed: Seed of the draw.

    Returns:
        `ParallelText`; no number is in two splits.

    Raises:
        ValueError: If a language is unknown or `count` cannot be drawn.

    Example:

    >>> tfprune.datasets.number_words(count=50).train[0]  # doctest: +SKIP
    ('nine hundred and twelve', 'neunhundertzwölf')
    """
    words = require("num2words", extra="translation")
    for name, language in (("source", source), ("target", target)):
        if language not in words.CONVERTER_CLASSES:
            raise ValueError(
                f"`{name}` must be one of: {', '.join(sorted(words.CONVERTER_CLASSES))}. "
                f"Received: {name}={language!r}"
            )
    if not 20 <= count <= limit // 2:
        raise ValueError(
            "`count` must lie between 20 and half of `limit`. "
            f"Received: count={count}, limit={limit}"
        )
    draw = random.Random(seed)
    chosen: dict[int, None] = {}
    digits = len(str(limit - 1))
    while len(chosen) < count:
        # As many short numbers as long ones, as far as there are any.
        top = min(limit, 10 ** draw.randint(2, digits))
        chosen.setdefault(draw.randrange(top))
    numbers = list(chosen)
    draw.shuffle(numbers)
    pairs = [(words.num2words(n, lang=source), words.num2words(n, lang=target)) for n in numbers]
    held_out = count // 10
    return ParallelText(
        source, target, pairs[2 * held_out :], pairs[:held_out], pairs[held_out : 2 * held_out]
    )
