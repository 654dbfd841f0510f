"""Finds the structures of a model."""

from __future__ import annotations

import keras

from tfprune.structures.collection import Structures
from tfprune.structures.feed_forward import find_feed_forward, is_dense
from tfprune.structures.graph import Graph, Untraceable, graph_of, is_masked
from tfprune.structures.registry import describe_of
from tfprune.structures.structure import Skipped, Structure


def find_structures(model: keras.Layer) -> Structures:
    """Finds everything that can be removed from a model while it stays dense.

    Looks into Functional, Sequential, nested and subclassed models and into layers made of
    layers, such as KerasHub's `TransformerEncoder`. Nothing raises on an unknown layer: what must
    be left whole is listed with the reason in `Structures.skipped`.

    Args:
        model: A built Keras model or layer.

    Returns:
        `Structures`, which prints as a table.

    Raises:
        ValueError: If `model` is no Keras layer or is not built.

    Example:

    >>> import keras, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((16,)),
    ...     keras.layers.Dense(64, "relu", name="hidden"),
    ...     keras.layers.Dense(2, name="out"),
    ... ])
    >>> tfprune.find_structures(model)[0]
    <FeedForwardUnits hidden: 64 groups of 19>
    """
    if not isinstance(model, keras.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: model={model!r}")
    if not model.built:
        raise ValueError(
            "`model` must be built, so that its weights exist: give it an `Input`, or call it "
            f"once on data. Received: model={model.name!r}, which is not built."
        )
    search = _Search()
    search.look_into(model, prefix="", call=None)
    return search.result()


class _Search:
    def __init__(self):
        self.found: list[Structure] = []
        self.skipped: list[tuple[keras.Layer | None, Skipped]] = []
        self.seen: set[int] = set()
        self.places: dict[int, set[str]] = {}  # dense layer -> graphs that call it
        self.owners: dict[int, set[int]] = {}  # variable -> layers that hold it

    def look_into(self, layer: keras.Layer, prefix: str, call) -> None:
        """Searches the graph inside a layer, then the layers in it."""
        self.seen.add(id(layer))
        self._note_owners(layer)
        try:
            graph = graph_of(layer, call)
        except Untraceable as reason:
            self._leave_whole(layer, prefix, str(reason))
            return
        pairs = self._feed_forward(graph, prefix, layer.name)
        for node in graph.nodes:
            inner = node.operation
            if id(inner) in pairs:
                self.found.append(pairs.pop(id(inner)))
            if not isinstance(inner, keras.Layer) or id(inner) in self.seen:
                continue
            if describe_of(inner):
                self.seen.add(id(inner))
                self._describe(inner, graph, prefix)
            elif _has_layers(inner) and not is_dense(inner):
                self.look_into(inner, f"{prefix}{inner.name}/", node)

    def _feed_forward(self, graph: Graph, prefix: str, where: str) -> dict[int, Structure]:
        """The feed-forward pairs of a graph by the `id` of their first layer."""
        pairs = {}
        for node in graph.nodes:
            if is_dense(node.operation):
                self.places.setdefault(id(node.operation), set()).add(prefix or where)
        for result in find_feed_forward(graph, lambda layer: f"{prefix}{layer.name}"):
            if isinstance(result, Structure):
                pairs[id(next(result.layers()))] = result
            else:
                layer, reason, end = result
                # Inside a layer, that the last of a pair makes its output goes without saying.
                usual = end == "residual" or (end == "output" and prefix)
                skipped = Skipped(f"{prefix}{layer.name}", reason)
                self.skipped.append((layer if usual else None, skipped))
        return pairs

    def _describe(self, layer: keras.Layer, graph: Graph, prefix: str) -> None:
        name = f"{prefix}{layer.name}"
        if any(len(node.outputs) > 1 for node in graph.calls(layer)):
            self._skip(layer, name, "its attention scores are used, which show every head")
            return
        if any(getattr(x, "quantization_mode", None) for x in layer._flatten_layers()):
            self._skip(layer, name, "it is quantized")
            return
        if any(getattr(x, "lora_enabled", False) for x in layer._flatten_layers()):
            self._skip(layer, name, "it has LoRA weights; merge them first")
            return
        try:
            structure = describe_of(layer)(layer, name)
            structure.masked = any(is_masked(node.input_tensors[0]) for node in graph.calls(layer))
            self.found.append(structure)
        except (ValueError, AttributeError) as reason:
            self._skip(layer, name, str(reason))

    def _leave_whole(self, layer: keras.Layer, prefix: str, reason: str) -> None:
        removable = [
            x for x in layer._flatten_layers(include_self=False) if is_dense(x) or describe_of(x)
        ]
        if removable:
            self._skip(layer, prefix.rstrip("/") or layer.name, reason)
        self.seen.update(id(x) for x in layer._flatten_layers())

    def _skip(self, layer, name, reason):
        self.skipped.append((layer, Skipped(name, reason)))

    def _note_owners(self, layer):
        for inner in layer._flatten_layers():
            for variable in inner._trainable_variables + inner._non_trainable_variables:
                self.owners.setdefault(id(variable), set()).add(id(inner))

    def result(self) -> Structures:
        """Drops what is shared between places that cannot be cut alike."""
        kept = []
        for structure in self.found:
            reason = self._shared(structure)
            if reason:
                self.skipped.append((None, Skipped(structure.name, reason)))
            else:
                kept.append(structure)
        partners = {id(share.layer) for s in kept for share in s.consumers}
        # Nor need it be said that the second layer of a pair ends in the residual stream.
        skipped = [skip for layer, skip in self.skipped if id(layer) not in partners]
        return Structures(_unique(kept), skipped)

    def _shared(self, structure) -> str | None:
        for layer in structure.layers():
            if len(self.places.get(id(layer), ())) > 1:
                return f"{layer.name} is called in more than one model"
        for share in structure.slices:
            if len(self.owners.get(id(share.variable), ())) > 1:
                return f"{share.layer.name} shares its {share.attribute} with another layer"
        return None


def _unique(structures):
    """Makes names unique; layers of one model may share a name when the model is subclassed."""
    counts: dict[str, int] = {}
    for s in structures:
        counts[s.name] = counts.get(s.name, 0) + 1
        if counts[s.name] > 1:
            s.name = f"{s.name}:{counts[s.name]}"
    return structures


def _has_layers(layer) -> bool:
    return len(layer._flatten_layers(include_self=False)) > 0
