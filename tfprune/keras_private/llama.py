"""What the configuration of KerasHub's Llama leaves out."""

from __future__ import annotations

from functools import wraps

_TIED = "tie_word_embeddings"


def say_that_embeddings_are_tied() -> None:
    """Lets the configuration of a Llama say whether input and output share their embeddings.

    Without it a Llama with tied embeddings is copied, and loaded from its file, as one without.

    Assumes: KerasHub's `LlamaBackbone` takes `tie_word_embeddings` and keeps it as an attribute.
    Up to 0.32 its `get_config` leaves it out.
    """
    from keras_hub.models import LlamaBackbone

    plain = LlamaBackbone.get_config
    if hasattr(plain, "tfprune_says_that_embeddings_are_tied"):
        return

    @wraps(plain)
    def get_config(self):
        config = plain(self)
        if hasattr(self, _TIED):  # Earlier versions cannot tie them.
            config.setdefault(_TIED, getattr(self, _TIED))
        return config

    vars(get_config)["tfprune_says_that_embeddings_are_tied"] = True
    LlamaBackbone.get_config = get_config
