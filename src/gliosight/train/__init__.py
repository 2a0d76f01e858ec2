"""The training bench: from a data set to weights, and from weights to a model (extra: train)."""
