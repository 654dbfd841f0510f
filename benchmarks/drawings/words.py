"""What the pictures say alike: the machine, kinds of groups, standard errors."""

from tfprune.measuring.machine import timed_on


def machine(results, package="ai-edge-litert"):
    """The machine of a results file and what its times were taken with."""
    return timed_on(results["machine"], results["versions"][package])


def standard_error(share, tested):
    """That of a share of right answers."""
    return (share * (1 - share) / tested) ** 0.5


def groups_left(dense, groups):
    """Structure to `(left, total)`, and to its kind, from the groups of two models."""
    left = {name: (groups.get(name, 0), total) for name, total in dense.items()}
    return left, {name: "heads" if "attention" in name else "ffn" for name in left}


def grouped(models, name_of, point_of):
    """The models but dense as lines: name of a method to its points."""
    series = {}
    for run, row in models.items():
        if run != "dense":
            series.setdefault(name_of(run), []).append(point_of(row))
    return series
