"""Do two methods differ? Both judged on the same examples, both trained with the same seeds."""

import numpy as np


def difference(ours, theirs, seeds_count=True):
    """The mean difference between two methods, and its standard error.

    Two things are drawn by chance: the test examples, and the seed of the training. The error holds
    both, as if they were independent, so it is rather too large than too small.

    Args:
        ours: Seed to what each example gave, such as 1 for right and 0 for wrong.
        theirs: Likewise; seeds that only one of the two has do not count.
        seeds_count: Whether the error holds what the seed does; it needs two of them then.
            Otherwise it is that of the test examples alone, for these very models.

    Returns:
        The mean, its standard error (`None` where seeds count and there are fewer than two), and
        the number of seeds.
    """
    seeds = [seed for seed in ours if seed in theirs]
    each = np.array([np.subtract(ours[seed], theirs[seed]) for seed in seeds], float)
    by_example = each.mean(axis=0).std(ddof=1) / np.sqrt(each.shape[1])
    if not seeds_count:
        return each.mean(), float(by_example), len(seeds)
    if len(seeds) < 2:
        return each.mean(), None, len(seeds)
    by_seed = each.mean(axis=1).std(ddof=1) / np.sqrt(len(seeds))
    return each.mean(), float(np.hypot(by_example, by_seed)), len(seeds)


def verdict(mean, error):
    """In words: better, worse, or that it cannot be told, at two standard errors."""
    if error is None or abs(mean) <= 2 * error:
        return "cannot be told apart"
    return "better" if mean > 0 else "worse"


def in_points(pair):
    """A difference and its error, in points."""
    return _in_words(pair, 100, 1)


def in_loss(pair):
    """A difference and its error, of a loss."""
    return _in_words(pair, 1, 3)


def _in_words(pair, scale, digits):
    if pair is None:
        return ""
    mean, error, _ = pair
    text = f"{scale * mean:+.{digits}f}"
    if error is None:
        return text
    text += f" ± {scale * error:.{digits}f}"
    return text if verdict(mean, error) == "cannot be told apart" else f"**{text}**"
