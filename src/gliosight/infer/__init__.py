"""Network input to maps (stage: infer).

`gliosight.infer.model` loads a model and checks its hash; an *engine* (one module each) runs its network.
"""

from gliosight.infer.model import Model, load_model, shipped_models

__all__ = ["Model", "load_model", "shipped_models"]
