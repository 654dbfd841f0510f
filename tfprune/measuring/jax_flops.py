"""Counts the floating-point operations of a jaxpr, loops and called functions too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def flops_of_jaxpr(closed: Any) -> int:
    """The operations of one evaluation.

    Args:
        closed: What `jax.make_jaxpr` gives.

    Raises:
        ValueError: If it cannot be told how often a loop runs.
    """
    jaxpr = closed.jaxpr
    return _flops(jaxpr, dict(zip(jaxpr.constvars, closed.consts, strict=True)))


def _flops(jaxpr, known: dict[Any, Any]) -> int:
    """`known` holds the values of variables that depend on no input."""
    known = dict(known)
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        values = [_value(x, known) for x in equation.invars]
        if name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            inner = [equation.invars[0].aval.shape[axis] for axis in left]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(inner)
        elif name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "scan":
            constants = values[: equation.params["num_consts"]]
            each = _inner(equation.params["jaxpr"], constants)
            total += each * equation.params["length"]
        elif name == "while":
            total += _loop(equation, values)
        elif name == "cond":
            total += max(_inner(branch, values[1:]) for branch in equation.params["branches"])
        elif name in ("convert_element_type", "copy") and values[0] is not None:
            known[equation.outvars[0]] = values[0]
        else:
            for value in equation.params.values():
                if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                    total += _inner(value, values)
    return total


def _inner(jaxpr, values) -> int:
    """The operations of a function that is called on values, `None` where they are not known."""
    if not hasattr(jaxpr, "consts"):
        return _flops(jaxpr, _known(jaxpr.invars, values))
    known = _known(jaxpr.jaxpr.constvars, jaxpr.consts)
    return _flops(jaxpr.jaxpr, known | _known(jaxpr.jaxpr.invars, values))


def _known(variables, values) -> dict[Any, Any]:
    pairs = zip(variables, values, strict=False)
    return {variable: value for variable, value in pairs if value is not None}


def _value(variable, known):
    if hasattr(variable, "val"):  # A literal.
        return variable.val
    return known.get(variable)


def _convolution(equation) -> int:
    """An output position reads a window; in a transposed one an input position adds to a window.

    There the input is spread out or padded with zeros, which are no work, so that the output is
    larger than the input.
    """
    numbers = equation.params["dimension_numbers"]
    inputs, kernel = (x.aval.shape for x in equation.invars[:2])
    output = equation.outvars[0].aval.shape
    axes = zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)
    positions = math.prod(min(inputs[i], output[o]) for i, o in axes)
    window = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    return 2 * output[numbers.out_spec[0]] * output[numbers.out_spec[1]] * positions * window


def _loop(equation, values) -> int:
    """A loop that counts up to a limit; at most, where it may stop earlier."""
    params = equation.params
    at_test, at_body = params["cond_nconsts"], params["body_nconsts"]
    body, test = params["body_jaxpr"].jaxpr, params["cond_jaxpr"].jaxpr
    carried = values[at_test + at_body :]
    same = [given is out for given, out in zip(body.invars[at_body:], body.outvars, strict=True)]
    constant = [value if is_same else None for value, is_same in zip(carried, same, strict=True)]
    each = _inner(params["body_jaxpr"], [*values[at_test : at_test + at_body], *constant])
    if not each:
        return 0
    inner = [*values[:at_test], *constant]
    known = _known(test.invars, inner) | _known(test.constvars, params["cond_jaxpr"].consts)
    made = {out: eqn for eqn in test.eqns for out in eqn.outvars}
    places = {variable: i for i, variable in enumerate(test.invars[at_test:])}
    found, left = [], [test.outvars[0]]
    while left:
        eqn = made.get(left.pop())
        if eqn is None:
            continue
        if eqn.primitive.name == "and":
            left += [x for x in eqn.invars if not hasattr(x, "val")]
        if eqn.primitive.name not in ("lt", "le") or hasattr(eqn.invars[0], "val"):
            continue
        place, end = places.get(eqn.invars[0]), _value(eqn.invars[1], known)
        start = None if place is None else carried[place]
        step = None if place is None else _step(body, at_body + place, place)
        if start is None or end is None or step is None or np.ndim(end) or np.ndim(start):
            continue
        more = (float(end) - float(start)) / step
        found.append(math.floor(more) + 1 if eqn.primitive.name == "le" else math.ceil(more))
    if not found:
        raise ValueError(
            "`model` has a loop of which it cannot be told how often it runs, since that depends "
            "on its data. Its floating-point operations cannot be counted."
        )
    return each * max(0, min(found))


def _step(body, given: int, out: int) -> float | None:
    """By how much a counter grows in each turn."""
    for equation in body.eqns:
        if body.outvars[out] in equation.outvars and equation.primitive.name == "add":
            values = [x.val for x in equation.invars if hasattr(x, "val")]
            is_counter = body.invars[given] in [x for x in equation.invars if not hasattr(x, "val")]
            if is_counter and values and values[0] > 0:
                return float(values[0])
    return None
