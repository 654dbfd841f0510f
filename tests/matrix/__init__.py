"""The matrix of models: what of them can be pruned, and whether anything goes wrong."""
