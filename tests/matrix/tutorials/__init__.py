"""Models as tutorials write them: with layers, functions and habits that users copy from there.

None of them is made for what tfprune finds. Some layers have a `get_config()`, some do not, some
are made in `__init__` and never in `build()`, some models train with a `train_step` of their own.
"""

from tests.matrix.tutorials import (
    attention,
    graphs,
    images,
    networks,
    recurrent,
    tables,
    text,
    translation,
    vision_transformers,
)

MODELS = {
    **text.MODELS,
    **translation.MODELS,
    **attention.MODELS,
    **recurrent.MODELS,
    **vision_transformers.MODELS,
    **images.MODELS,
    **tables.MODELS,
    **graphs.MODELS,
    **networks.MODELS,
}
