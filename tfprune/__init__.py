"""tfprune: make Keras 3 models physically smaller while they train."""
