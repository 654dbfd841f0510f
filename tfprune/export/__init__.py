"""SavedModel and LiteRT files, checked before they count."""

from tfprune.export.exporting import checked_target, export, require_tensorflow
from tfprune.export.inputs import example_inputs, with_inputs
from tfprune.export.litert_conversion import convert_saved_model
from tfprune.export.saved_model import is_saved_model

__all__ = [
    "checked_target",
    "convert_saved_model",
    "example_inputs",
    "export",
    "is_saved_model",
    "require_tensorflow",
    "with_inputs",
]
