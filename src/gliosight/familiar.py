"""What a model knows of the images it was trained on: how far features lie from theirs (domain layer).

Features are the numbers that a network's export gives for a slice beside its answers, see
`gliosight.train.networks.joint.DescribingNetwork`. Three linear functions of them tell a head from what is
not one, FLAIR from other contrasts, and axial from other planes: each is fitted by ridge regression to -1 on
true FLAIR slices and to 1 on foreign ones. A study has the mean over its slices. Fitted by
``benchmarks/gate.py``, described in docs/trust.md.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The functions, by the code of the flag that a study gets which one of them calls foreign.
CODES = ("NOT_A_HEAD", "NOT_FLAIR", "NOT_AXIAL")
# Standardised features are clipped here.
CLIPPED = 8.0
# From so many slices on a study is a stack; of fewer the mean varies more, and more is allowed.
STACK = 3


@dataclass(frozen=True)
class Familiar:
    """The numbers of a model's gate.

    Parameters
    ----------
    mean, scale : (features,) float array
        Of true slices: features are standardised by them.
    weights : (3, features) float array
    intercepts : (3,) float array
    typical : (3,) float array
        Median of true studies.
    limits : (2, 3) float array
        Where a study becomes unusual: of one or two slices; of a stack.
    refused_from : float
        The distance from which a study is refused.

    Raises
    ------
    ValueError
        Shapes that do not fit, numbers that are not finite, limits that are not above ``typical``.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    typical: NDArray[np.float32]
    limits: NDArray[np.float32]
    refused_from: float

    def __post_init__(self) -> None:
        width = self.mean.shape
        shapes = {
            "mean": (*width,),
            "scale": (*width,),
            "weights": (len(CODES), *width),
            "intercepts": (len(CODES),),
            "typical": (len(CODES),),
            "limits": (2, len(CODES)),
        }
        for name, shape in shapes.items():
            values = getattr(self, name)
            if len(width) != 1 or values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"{name} are not {shape} finite numbers")
        if not (self.scale > 0).all() or not (self.limits > self.typical).all():
            raise ValueError("scale or limits are too small")
        if not 1 <= self.refused_from < np.inf:
            raise ValueError(f"refused_from is {self.refused_from}, not 1 or more")

    def distance(self, features: NDArray[np.float32]) -> tuple[float, str]:
        """How far a study's slices lie from true ones, and the code of what they are farthest from.

        Parameters
        ----------
        features : (slices, features) array

        Returns
        -------
        distance : float
            0 typical or better, 1 at the limit of unusual.
        code : str
            One of `CODES`.
        """
        standard = np.clip((features - self.mean) / self.scale, -CLIPPED, CLIPPED)
        scores = (standard @ self.weights.T + self.intercepts).mean(axis=0)
        limits = self.limits[int(len(features) >= STACK)]
        parts = (scores - self.typical) / (limits - self.typical)
        farthest = int(parts.argmax())
        return max(0.0, float(parts[farthest])), CODES[farthest]


def read_familiar(content: bytes) -> Familiar:
    """Read the numbers from the content of a ``.npz`` file.

    Raises
    ------
    ValueError
        They are not there, or do not fit.
    """
    names = ("mean", "scale", "weights", "intercepts", "typical", "limits")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            mean, scale, weights, intercepts, typical, limits = (
                np.asarray(arrays[name], dtype=np.float32) for name in names
            )
            refused_from = float(arrays["refused_from"])
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError("a field is missing, or it is no .npz file") from error
    return Familiar(mean, scale, weights, intercepts, typical, limits, refused_from)
