"""Where a layer sees its weights and its input through something, for the time of a fit."""
