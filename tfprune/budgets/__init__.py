"""How far to prune: targets in plain units, and the choice of groups that meets them."""
