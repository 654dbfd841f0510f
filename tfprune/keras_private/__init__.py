"""What tfprune needs of Keras that is not public, in one place.

Nothing else in tfprune reaches into Keras's private parts. Each function states the assumption it
makes, and `tests/test_keras_private.py` tests each against Keras, so that a version of Keras that
changes one of them fails there first.
"""

from tfprune.keras_private.attention import Projections, output_shape_of, projections
from tfprune.keras_private.graphs import (
    calls_of,
    forgetting_calls,
    functional_inside,
    inputs_struct,
    is_functional,
    is_functional_itself,
    keep_calls,
    mask_of,
    node_of,
    nodes_of,
    operation_classes,
    operation_of,
    outputs_struct,
    runs_its_graph,
)
from tfprune.keras_private.layers import (
    build_shapes,
    first_layer,
    inner_layers,
    layer_and_inner_layers,
    own_variables,
    plain_variable,
    set_build_shapes,
    unlocked,
    untrack,
    variable_name,
)
from tfprune.keras_private.saving import public_module, register_as, registered_name

__all__ = [
    "Projections",
    "build_shapes",
    "calls_of",
    "first_layer",
    "forgetting_calls",
    "functional_inside",
    "inner_layers",
    "inputs_struct",
    "is_functional",
    "is_functional_itself",
    "keep_calls",
    "layer_and_inner_layers",
    "mask_of",
    "node_of",
    "nodes_of",
    "operation_classes",
    "operation_of",
    "output_shape_of",
    "outputs_struct",
    "own_variables",
    "plain_variable",
    "projections",
    "public_module",
    "register_as",
    "registered_name",
    "runs_its_graph",
    "set_build_shapes",
    "unlocked",
    "untrack",
    "variable_name",
]
