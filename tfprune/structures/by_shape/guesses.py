"""How the heads of an attention layer may lie in its variables, and which numbers count them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import keras

from tfprune.keras_private.layers import (
    kept_by_keras,
    layer_and_inner_layers,
    own_variables_by_name,
)
from tfprune.structures.by_shape.roles import Roles
from tfprune.structures.dense import is_dense, letters
from tfprune.structures.slices import Slices


@dataclass(frozen=True)
class Count:
    """A whole number that an object keeps, and that changes with the number of groups.

    Args:
        layer: The layer that keeps it.
        attribute: The attribute.
        per_group: Its value for one group.
        place: Which element it is, where the attribute holds several numbers.
    """

    layer: keras.Layer
    attribute: str
    per_group: int
    place: int | None = None


@dataclass(frozen=True)
class Guess:
    """One way in which the heads of a layer may lie in it.

    Args:
        groups: How many groups of heads there are.
        slices: The shares in each variable, producers first.
        counts: The numbers that count groups.
        is_padded: Whether the dense layers alone are cut, and zeros stand where heads were.
    """

    groups: int
    slices: tuple[Slices, ...]
    counts: tuple[Count, ...]
    is_padded: bool = False


def guesses_of_heads(layer: keras.Layer, roles: Roles) -> Iterator[Guess]:
    """The ways in which heads may lie in a layer, the likely ones first.

    Args:
        layer: A layer with attention in it.
        roles: Its roles, as `find_roles` says.

    Yields:
        Guesses, of which none need be right.
    """
    numbers = list(numbers_of(layer))
    counted = {value for _, name, _, value in numbers if counts_heads(name)}
    # The finest first, since several groups together can leave as well. Those of keys and values
    # may be fewer than those of queries.
    sizes = {*counted, *roles.sizes}
    padded: list[Guess] = []
    for groups in sorted(sizes, reverse=True):
        repeats = sorted({n // groups for n in sizes if n % groups == 0})
        ways = list(_layouts(roles, groups, repeats))
        padded += [Guess(groups, slices, (), is_padded=True) for slices in ways]
        heads = {groups * repeat for repeat in repeats}
        riders = tuple(_riders(layer, roles, heads))
        for also, slices in product([(), riders] if riders else [()], ways):
            producers = [s for s in slices if s.role == "producer"]
            consumers = [s for s in slices if s.role == "consumer"]
            for counts in counts_of(numbers, slices, groups, heads):
                yield Guess(groups, (*producers, *also, *consumers), counts)
    # Where the layer needs to know of all its heads, none can leave but in the layers around them.
    yield from padded


def guesses_of_units(layer: keras.Layer, roles: Roles) -> Iterator[Guess]:
    """The ways in which the units between dense layers may lie in them.

    Args:
        layer: The layer with the dense layers in it.
        roles: The dense layers that make the units, and the one that reads them.

    Yields:
        Guesses, of which none need be right.
    """
    groups = roles.consumers[0].kernel.shape[0]
    numbers = list(numbers_of(layer))
    for slices in _layouts(roles, groups, ()):
        if all(s.within is None for s in slices):
            for counts in counts_of(numbers, slices, groups, {groups}, counts_units):
                yield Guess(groups, slices, counts)


# -- variables -----------------------------------------------------------------------------------


def _layouts(roles: Roles, groups: int, repeats: Sequence[int]) -> Iterator[tuple[Slices, ...]]:
    """Where the heads lie in the dense layers: in blocks, or in the parts of a fused one."""
    fused: list[tuple[int, ...] | None] = [None]
    if len(roles.producers) < 3:
        fused += [(1, 1, 1), (1, 1)]
        fused += [(repeat, 1, 1) for repeat in repeats if repeat > 1]
    for parts in fused:
        shares: list[Slices] = []
        for layer in roles.producers:
            made = _produced(layer, groups, parts)
            if made is None:
                break
            shares += made
        else:
            read = [_consumed(layer, groups) for layer in roles.consumers]
            if all(read):
                yield (*shares, *filter(None, read))


def _produced(layer, groups, parts) -> list[Slices] | None:
    """The shares of a dense layer that makes heads, or `None` if its outputs cannot be theirs."""
    shape = layer.kernel.shape
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, outputs = letters(layer)
        made = [letter for letter in outputs if letter in kernel and letter not in inputs]
    else:
        inputs, kernel, outputs, made = "a", "ab", "b", ["b"]
    fitting = [a for a in made if shape[kernel.index(a)] % groups == 0]
    if not fitting or len(made) > 2:
        return None
    letter = fitting[0]
    axis = kernel.index(letter)
    segments = None
    if parts is not None:
        one, rest = divmod(shape[axis], sum(parts) * groups)
        if rest:
            return None
        segments = tuple(part * groups * one for part in parts)
    within = next((kernel.index(a) for a in made if a != letter), None)
    shares = [Slices(layer, "kernel", axis, "producer", within=within, segments=segments)]
    if layer.bias is not None:
        # A bias has the last axes of the output.
        behind = outputs[len(outputs) - len(layer.bias.shape) :]
        if letter in behind and layer.bias.shape[behind.index(letter)] == shape[axis]:
            at = behind.index(letter)
            other = next((behind.index(a) for a in made if a != letter and a in behind), None)
            shares.append(Slices(layer, "bias", at, "producer", within=other, segments=segments))
    return shares


def _consumed(layer, groups) -> Slices | None:
    """The share of a dense layer that reads heads, or `None` if its input cannot be theirs."""
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, outputs = letters(layer)
        read = [letter for letter in inputs if letter in kernel and letter not in outputs]
    else:
        inputs, kernel, read = "a", "ab", ["a"]
    axis = kernel.index(read[0]) if read else 0
    if not read or len(read) > 2 or layer.kernel.shape[axis] % groups:
        return None
    within = kernel.index(read[1]) if len(read) > 1 else None
    # What is said of the input of a layer holds where its last axes are those of the kernel.
    plain = [kernel.index(a) for a in read] == list(range(len(read))) and inputs.endswith(
        "".join(read)
    )
    bias = "bias" if layer.bias is not None else None
    return Slices(layer, "kernel", axis, "consumer", within=within, bias=bias, reads_input=plain)


def axis_outside(share: Slices) -> int:
    """The axis, counted from the last, along which groups lie in what a dense layer makes or reads.

    Args:
        share: The share in its kernel.
    """
    if not isinstance(share.layer, keras.layers.EinsumDense):
        return -1
    inputs, kernel, outputs = letters(share.layer)
    outside = inputs if share.role == "consumer" else outputs
    return outside.index(kernel[share.axis]) - len(outside)


def _riders(layer, roles, heads) -> Iterator[Slices]:
    """Other variables with an axis for heads, such as a table of relative positions."""
    dense = {id(x) for x in (*roles.producers, *roles.consumers)}
    for inner in layer_and_inner_layers(layer):
        if id(inner) in dense:
            continue
        for name, value in own_variables_by_name(inner).items():
            axes = [axis for axis, size in enumerate(value.shape) if size in heads]
            if axes:
                yield Slices(inner, name, axes[-1], "producer")


# -- numbers -------------------------------------------------------------------------------------


def numbers_of(layer: keras.Layer) -> Iterator[tuple[keras.Layer, str, int | None, int]]:
    """All whole numbers that a layer and the layers inside it keep."""
    for inner in layer_and_inner_layers(layer):
        for name, value in vars(inner).items():
            if name in kept_by_keras(False):
                continue
            if _is_number(value):
                yield inner, name, None, value
            elif isinstance(value, (list, tuple)) and all(
                x is None or _is_number(x) for x in value
            ):
                for place, x in enumerate(value):
                    if x is not None:
                        yield inner, name, place, x


def _is_number(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def counts_heads(name: str) -> bool:
    """Whether a name is one of a number of heads, such as `num_kv_heads`."""
    return bool(re.search("head", name)) and not re.search("dim|size|width|per|depth", name)


def counts_units(name: str) -> bool:
    """Whether a name is one of a number of units, such as `intermediate_dim`."""
    return bool(re.search("unit|inner|intermediate|ff|feed|mlp|expan", name))


def counts_of(
    numbers, slices, groups, heads, is_likely=counts_heads
) -> Iterator[tuple[Count, ...]]:
    """The numbers that may count groups, each combination once.

    Args:
        numbers: What `numbers_of` yields.
        slices: The shares of the dense layers, which are told of their shapes by themselves.
        groups: How many groups there are.
        heads: Numbers of groups that there may be, of queries and of keys.
        is_likely: Whether a name is one of a number of groups. Such numbers are rewritten also
            where nothing needs them.
    """
    dense = {id(share.layer) for share in slices if is_dense(share.layer)}
    widths = {share.variable.shape[share.axis] for share in slices}
    named, wide, other = [], [], []
    for layer, name, place, value in numbers:
        if id(layer) in dense or value % groups:
            continue
        count = Count(layer, name, value // groups, place)
        if is_likely(name) and value in heads:
            named.append(count)
        elif value in widths:
            wide.append(count)
        elif value in heads:
            other.append(count)
    own = [c for c in wide if not re.search("hidden|embed|model|output|input", c.attribute)]
    tries = [named, [*named, *own], *([*named, c] for c in wide)]
    tries += [[*named, *wide], [*named, *wide, *other], []]
    seen: list[list[Count]] = []
    for counts in tries:
        if counts not in seen:
            seen.append(counts)
            yield tuple(counts)
