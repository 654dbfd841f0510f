"""What runs a fit: when something happens, what is attached to a model, and how it comes off."""
