"""Plots: the groups left in each layer, quality against speed, distances of subnetworks.

Methods, such as `"gradient importance"` or `"group lasso"`, and kinds of structures have the same
colour and marker in every picture. All pictures are drawn on white, so that they can be read on a
dark page too.
"""

from tfprune.reports.plots.groups import heat_maps, rounds, survivors
from tfprune.reports.plots.quality import curves, pareto, small_multiples

__all__ = ["curves", "heat_maps", "pareto", "rounds", "small_multiples", "survivors"]
