"""KerasHub's backbones, each from a tiny configuration, with random weights.

Layers are many and patches small enough that embeddings and the convolutions that cut an image
into patches do not dominate: what can be pruned has about the share that it has in a real model.
"""

from tests.matrix.hub import convolutions, decoders, encoders, images, mixed, pairs, tasks

BACKBONES = {
    **encoders.MODELS,
    **decoders.MODELS,
    **pairs.MODELS,
    **images.MODELS,
    **mixed.MODELS,
    **convolutions.MODELS,
}
TASKS = tasks.MODELS
