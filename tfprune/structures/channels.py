"""Channels of convolutions, and what else flows like them: a `Structure` for each family."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfprune.structures.added_behind import added_behind
from tfprune.structures.convolutions import SEPARABLE, is_grouped
from tfprune.structures.dense import is_dense
from tfprune.structures.emission import Emission
from tfprune.structures.flow import Family, Flow, Use
from tfprune.structures.flow.products import PRODUCTS
from tfprune.structures.flow.rules import rule_of
from tfprune.structures.recurrent import CELLS, around_cell, cells_of, with_units
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Structure

_ROLES = {"make": "producer", "ride": "producer", "read": "consumer", "statistic": "statistic"}


class Channels(Structure):
    """Channels that some layers make and others read, with all that rides on them in between.

    Units and heads that dense layers make flow in the same way, and so do those of recurrent ones.

    Args:
        name: The path of the first layer that makes them.
        flow: The flow through the graph.
        family: One of its families.

    Attributes:
        kind: `"channels"`; `"width"` where an addition joins what several layers make, as in the
            residual streams of convolutional networks; `"recurrent"` where a recurrent layer makes
            them; `"ffn"` where dense layers do, for dense or recurrent ones, and `"heads"` where
            their products with others are taken, as in attention.
    """

    least = 1  # A convolution without channels cannot be made.

    def __init__(self, name: str, flow: Flow, family: Family):
        self._nodes = flow.nodes_of(family)
        # `id` of a cell to the layers that it is in, the outermost first.
        self._around = {
            id(cell): around_cell(node.operation, cell)
            for node in self._nodes
            for cell in cells_of(node.operation)
        }
        in_order = np.arange(family.groups)
        order = {"producer": 0, "statistic": 1, "consumer": 2}
        slices = [
            Slices(
                use.layer,
                use.attribute,
                use.axis,
                _ROLES[use.role],
                reads_input=use.role == "read" and _is_plain_dense(use.layer),
                owner=None if np.array_equal(owner, in_order) else owner,
                caller=self._around.get(id(use.layer), [None])[-1],
                **_added_behind(flow.graph, use),
            )
            for use, owner in family.owners
        ]
        slices.sort(key=lambda share: order[share.role])  # Producers first.
        super().__init__(name, family.groups, tuple(slices))
        self.kind = kind_of(flow, family)
        has_products = _has_products(self._nodes)
        # What a layer does with its weights that no rule is for is unknown.
        self.works_by_kernels = not has_products and all(
            rule_of(share.layer) is not None for share in slices if share.is_matrix
        )
        self.flow = flow
        self._uses = [use for use, _ in family.owners]
        self._makers: dict[int, list[Use]] = {}
        for use in self._uses:
            if use.role == "make":
                self._makers.setdefault(id(use.layer), []).append(use)
        self.classes = family.classes
        self.tensors = self._tensors()

    def _tensors(self):
        """The tensors with nothing but these channels along their last axis.

        None where channels of others or other axes come in: then they are not followed into layers
        made of layers, which would have to be told of both.
        """
        found = {}
        for node in self._nodes:
            for tensor in [*node.input_tensors, *node.outputs]:
                for axis, labels in enumerate(self.flow.labels(tensor), -len(tensor.shape)):
                    if labels is None:
                        continue
                    owned = np.isin(self.flow.classes.of(labels), self.classes)
                    if owned.any() and not (axis == -1 and owned.all()):
                        return {}
                    if owned.any():
                        found[id(tensor)] = tensor
        return found

    @property
    def silencers(self):
        """None: what is emitted tells whether a kernel, or a factor behind it, is zero."""
        return ()

    @property
    def read_as_input(self) -> bool:
        """No: a convolution reads each channel at several places at once."""
        return False

    def layers(self):
        """The layers whose weights the channels are made of; recurrent layers before their cells.

        A cell that only reads channels is in a layer that has as many units as before.
        """
        seen: set[int] = set()
        for layer in super().layers():
            for found in (*self._around.get(id(layer), ()), layer):
                if id(found) not in seen:
                    seen.add(id(found))
                    yield found

    def resized_config(self, layer, groups):
        """The filters or units of a layer that makes channels."""
        cell = self._cell_in(layer)
        if cell is not None:
            if id(cell) not in self._makers:
                return {}
            use = next(use for use in self._makers[id(cell)] if use.attribute == "kernel")
            gates = use.variable.shape[use.axis] // cell.units
            return with_units(layer, self._left(use, groups) // gates)
        if isinstance(layer, layers.GroupNormalization):
            use = next(use for use in self._uses if use.layer is layer)
            left, width = self._left(use, groups), use.variable.shape[use.axis]
            return {"groups": layer.groups * left // width}
        if rule_of(layer) is None:
            sizes = {}
            for use in self._uses:
                if use.layer is layer:
                    sizes.update(dict.fromkeys(use.sizes, self._left(use, groups)))
            return sizes
        if id(layer) not in self._makers:
            return {}
        (use,) = self._makers[id(layer)]
        left = self._left(use, groups)
        if isinstance(layer, layers.EinsumDense):
            return {"output_shape": [*layer.partial_output_shape[:-1], left]}
        if isinstance(layer, layers.Dense):
            return {"units": left}
        if is_grouped(layer):
            return {"filters": left, "groups": self._groups_left(use, groups)}
        return {"filters": left}

    def _cell_in(self, layer) -> keras.Layer | None:
        """A cell as it is, or the first one in a recurrent layer; `None` for other layers."""
        if isinstance(layer, CELLS):
            return layer
        return next(iter(cells_of(layer)), None)

    def _groups_left(self, use, groups):
        """How many groups a grouped convolution has, of which they may leave whole."""
        of_group = self._share(use).owners(self.groups).reshape(use.layer.groups, -1)
        if np.any(of_group != of_group[:, :1]):
            return use.layer.groups  # Each keeps some of its channels.
        return use.layer.groups * self._left(use, groups) // use.variable.shape[use.axis]

    def _left(self, use, groups):
        """How many positions are left along the axis of a use."""
        share = self._share(use)
        gone = (self.groups - groups) * self.positions_of_a_group(share)
        return share.variable.shape[share.axis] - gone

    def _share(self, use) -> Slices:
        """The slices of a use."""
        place = use.attribute, use.axis
        return next(
            share
            for share in self.slices
            if share.layer is use.layer and (share.attribute, share.axis) == place
        )

    def input_shares(self):
        """One for each layer that is given channels; a grouped kernel has none for each of them."""
        for share in self.slices:
            layer = share.layer
            is_made = share.role == "producer" and id(layer) in self._makers
            if is_grouped(layer) or is_made or isinstance(layer, CELLS):
                continue
            if rule_of(layer) is None or isinstance(layer, layers.GroupNormalization):
                yield share
            elif isinstance(layer, SEPARABLE):
                if share.attribute == "depthwise_kernel":
                    yield share
            elif share.role != "producer" or share.attribute in ("alpha", "kernel"):
                yield share

    def input_widths(self, groups, length):
        """As of any structure; and of recurrent and of grouped layers.

        A grouped kernel has an axis for what one group reads.
        """
        yield from super().input_widths(groups, length)
        for use in self._uses:
            layer = use.layer
            if isinstance(layer, CELLS) and (use.attribute, use.axis) == ("kernel", 0):
                width = length(self._share(use))
                yield from ((x, width) for x in (*self._around[id(layer)], layer))
            if not is_grouped(layer) or use.attribute != "kernel":
                continue
            if use.role == "read":
                yield layer, length(self._share(use)) * layer.groups
            elif (left := self._groups_left(use, groups)) < layer.groups:
                yield layer, layer.kernel.shape[-2] * left

    def as_read_of_constants(self, consumer, value):
        """A kernel summed over its window, with the channels that it reads first."""
        value = np.moveaxis(value, consumer.axis, 0)
        if is_dense(consumer.layer):
            return value
        return value.sum(axis=tuple(range(1, value.ndim - 1)))

    def emitted(self, consumer, read):
        """What reaches a layer of each channel that its makers make no more; NaN for the others."""
        return self.all_emitted(read)[self.consumers.index(consumer)]

    def all_emitted(self, read):
        """As `emitted`, for all consumers; the calls between are run once."""
        return self._constants(read, carried=False)

    def all_constants(self, read):
        """As `all_emitted`, also where it differs from place to place what a layer makes of it."""
        return self._constants(read, carried=True)

    def _constants(self, read, carried):
        if not any(np.any(self._is_silent(share, read)) for share in self.producers):
            return [np.full(s.variable.shape[s.axis], np.nan) for s in self.consumers]
        emission = Emission(self.flow, self._nodes, self.classes, self._makers, read)
        return emission.into(self.consumers, carried)

    def _is_silent(self, share, read):
        value = np.moveaxis(read(share.variable), share.axis, 0)
        return ~np.any(self.by_group(value, share), axis=1)


def kind_of(flow: Flow, family: Family) -> str:
    """The kind of the groups of a family, as in `Channels.kind`."""
    ends = [use.layer for use, _ in family.owners if use.role in ("make", "read")]
    makers = [use.layer for use, _ in family.owners if use.role == "make"]
    if any(isinstance(layer, CELLS) for layer in makers) and not family.is_joined:
        return "recurrent"
    if all(is_dense(layer) or isinstance(layer, CELLS) for layer in ends):
        return "heads" if _has_products(flow.nodes_of(family)) else "ffn"
    return "width" if family.is_joined else "channels"


def _has_products(nodes) -> bool:
    return any(isinstance(node.operation, PRODUCTS) for node in nodes)


def _is_plain_dense(layer) -> bool:
    """Whether a layer is a dense one that overrides nothing."""
    return is_dense(layer) and rule_of(layer) is not None


def _added_behind(graph, use) -> dict[str, Any]:
    """Where constants can be added to what a layer sums over, if it is known to do nothing else."""
    is_cell = isinstance(use.layer, CELLS)
    known = use.role == "read" and rule_of(use.layer) is not None and not is_cell
    return added_behind(graph, use.layer) if known else {}
