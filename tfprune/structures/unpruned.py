"""The layers in which nothing is found, and what is said of each."""

from __future__ import annotations

import keras
from keras import tree

from tfprune.keras_private.layers import inner_layers, layer_and_inner_layers, own_variables
from tfprune.structures.graph import Graph
from tfprune.structures.registry import describe_of, is_in_graph_kind
from tfprune.structures.skipped import Skipped, SkippedLayer


class Unpruned:
    """What a search has to say of layers that have no groups.

    Attributes:
        skipped: Layers with what is said of them, and whether that need not be said of the second
            layer of a pair.
        noted: `id` of the layers with matrices of their own that need not be looked at again.
        shown: `id` of the layers whose calls are known, or that are in others.
    """

    def __init__(self):
        self.skipped: list[tuple[keras.Layer | None, Skipped, bool]] = []
        self.noted: set[int] = set()
        self.shown: set[int] = set()
        self._used: set[int] = set()  # variables that an operation is given

    def skip(self, layer: keras.Layer, name: str, reason: str) -> None:
        """Says why a layer is skipped.

        Args:
            layer: The layer.
            name: Its path.
            reason: As in `Skipped`.
        """
        self.skipped.append((layer, Skipped(name, reason), True))

    def skip_result(self, result: SkippedLayer, prefix: str) -> None:
        """Says what a graph kind has said of a layer.

        Args:
            result: What it has said.
            prefix: What comes before the name of the layer.
        """
        # That the last of a pair makes the output of a layer is usual, so it is not listed.
        usual = result.end == "residual" or (result.end == "output" and prefix != "")
        skipped = Skipped(f"{prefix}{result.layer.name}", result.reason)
        self.skipped.append((result.layer, skipped, usual))

    def forget(self, layers: set[int]) -> None:
        """Takes back what was said of layers, by `id`."""
        self.skipped = [skip for skip in self.skipped if id(skip[0]) not in layers]

    def note_shown(self, graph: Graph) -> None:
        """Notes which layers are called in a graph, and which variables are used in it."""
        for node in graph.nodes:
            self.shown.update(id(x) for x in _layers_of(node.operation))
            given = tree.flatten((node.arguments.args, node.arguments.kwargs))
            self._used.update(id(x) for x in given if isinstance(x, keras.Variable))

    def note_hidden(self, layer: keras.Layer, graph: Graph, prefix: str, seen: set[int]) -> None:
        """Lists the layers in a layer of which its graph shows no call.

        Keras's `TimeDistributed` does not call the layer in it, but what that layer's `call` is.

        Args:
            layer: The layer.
            graph: Its graph.
            prefix: What comes before the names of the layers in it.
            seen: `id` of the layers that were searched.
        """
        called = {id(node.operation) for node in graph.nodes}
        for inner in inner_layers(layer, recursive=False):
            parts = layer_and_inner_layers(inner)
            # One that is not used, or that is called inside another one, is none of these.
            if called & {id(x) for x in parts} or any(id(x) in seen for x in parts):
                continue
            if isinstance(layer, keras.layers.Wrapper) and any(has_matrix(x) for x in parts):
                self.noted.update(id(x) for x in parts)
                reason = f"{type(layer).__name__} calls it in a way that cannot be followed"
                self.skip(inner, f"{prefix}{inner.name}", reason)

    def note_unseen(self, model: keras.Layer) -> None:
        """Lists the layers with matrices of which no call was seen.

        Args:
            model: The model that was searched.
        """
        self.shown.add(id(model))

        def walk(layer, prefix):
            for inner in inner_layers(layer, recursive=False):
                name = f"{prefix}{inner.name}"
                # The cell of a recurrent layer is called by that layer, which has its own reason.
                in_rnn = isinstance(layer, keras.layers.RNN)
                known = in_rnn or id(inner) in self.shown or id(inner) in self.noted
                if not known and has_matrix(inner):
                    self.noted.add(id(inner))
                    self.skip(inner, name, self._why_unseen(inner, layer))
                if id(inner) not in walked:
                    walked.add(id(inner))
                    walk(inner, f"{name}/")

        walked = {id(model)}
        walk(model, "")

    def _why_unseen(self, layer, outer):
        if any(id(variable) in self._used for variable in own_variables(layer)):
            return f"{type(outer).__name__} uses its weights without calling it"
        return "no call of it is seen"


def _layers_of(operation) -> list[keras.Layer]:
    """A layer, and those inside it where only the kind of the layer knows of them."""
    if not isinstance(operation, keras.Layer):
        return []
    if describe_of(operation) or is_in_graph_kind(operation):
        return layer_and_inner_layers(operation)
    return [operation]


def has_matrix(layer) -> bool:
    """Whether a layer holds a kernel itself; a vocabulary is not for `find_structures`."""
    if isinstance(layer, keras.layers.Embedding):
        return False
    return any(len(variable.shape) > 1 for variable in own_variables(layer))
