"""Network input to maps (stage: infer): `model` loads and runs a model, and an engine runs its networks."""

from gliosight.infer.model import Model, load_model, shipped_models

__all__ = ["Model", "load_model", "shipped_models"]
