"""Smooth fields from a few numbers: bias fields, the shape of synthetic disease (training bench; torch)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def spread(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bicubic interpolation of a coarse grid whose corners are the corners of the result.

    As two matrix products, which take a twentieth of the time of `torch.nn.functional.interpolate`; that
    was a third of the time of a varied batch.

    Parameters
    ----------
    values : (..., r, c) float32 tensor
    size : tuple of int
        Rows and columns of the result.

    Returns
    -------
    (..., rows, columns) float32 tensor
    """
    rows, columns = (
        _weights(coarse, fine) for coarse, fine in zip(values.shape[-2:], size, strict=True)
    )
    return rows @ values @ columns.T


@lru_cache(maxsize=256)
def _weights(coarse: int, fine: int) -> Tensor:
    """(fine, coarse): what each coarse value gives to each fine one."""
    unit = torch.eye(coarse)[None, None]
    return functional.interpolate(unit, (fine, coarse), mode="bicubic", align_corners=True)[0, 0]
