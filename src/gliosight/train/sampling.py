"""Which slices make the batch of a step (training bench).

In: the rows to learn from and the recipe's `Sampling`. Out: for step ``k`` always the same rows. Each slice
has a chance by the recipe's order; shares of collections, or of persons, divide the draws among groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import UsageError, printable
from gliosight.train.packed import PackedSlices
from gliosight.train.recipe import Recipe, Sampling

# By area: this part of a patient's draws is spread evenly over its slices, so that each is seen.
EVEN_PART = 0.1 / 1.1


@dataclass(frozen=True)
class Sampler:
    """Draws batches."""

    rows: NDArray[np.int64]  # (n,) to draw from
    chance: NDArray[np.float64] | None  # (n,) of each row at every draw; None: each once an epoch
    per_epoch: int  # slices
    batch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; where each slice comes once, the last one may be smaller."""
        if self.chance is None:
            return -(-self.per_epoch // self.batch)
        return max(1, self.per_epoch // self.batch)

    def draw(self, step: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        """The rows of a step, and the generator that decides everything else about its batch."""
        generator = np.random.default_rng((self.seed, step))
        if self.chance is not None:
            return generator.choice(self.rows, self.batch, p=self.chance), generator
        epoch, number = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch, 1)).permutation(self.rows)
        order = order[: self.per_epoch]
        return order[number * self.batch : (number + 1) * self.batch], generator


def sampler_of(slices: PackedSlices, rows: NDArray[np.int64], recipe: Recipe) -> Sampler:
    """The sampler of a recipe.

    Raises
    ------
    UsageError
        There is no slice of the kind the recipe learns from, or its collections are not those of the
        data.
    """
    sampling = recipe.sampling
    area = slices.masks[rows].sum(axis=(1, 2), dtype=np.int64)
    if sampling.slices == "tumour":
        rows, area = rows[area > 0], area[area > 0]
    if not len(rows) or (sampling.order == "by-area" and not area.any()):
        raise UsageError(
            "there is no slice with tumour to learn from", remedy="check the manifest and the split"
        )
    per_epoch = sampling.per_epoch or len(rows)
    if sampling.order == "once":
        return Sampler(rows, None, min(per_epoch, len(rows)), recipe.batch, recipe.seed)
    if sampling.order == "weighted":
        chance = np.where(area > 0, 1.0, sampling.free_weight)
    else:
        # As the data set's authors draw: a slice's patient by its number of slices, then within the
        # patient by area.
        chance = np.empty(len(rows))
        patient = slices.patient_of(rows)
        for index in np.unique(patient):
            mine = patient == index
            even = np.full(mine.sum(), 1 / mine.sum())
            total = area[mine].sum()
            by_area = area[mine] / total if total else even
            chance[mine] = ((1 - EVEN_PART) * by_area + EVEN_PART * even) * mine.mean()
    chance /= chance.sum()
    if sampling.collections or sampling.within == "persons":
        chance = _with_shares(slices, rows, chance, sampling)
    return Sampler(rows, chance, per_epoch, recipe.batch, recipe.seed)


def _with_shares(
    slices: PackedSlices, rows: NDArray[np.int64], chance: NDArray[np.float64], sampling: Sampling
) -> NDArray[np.float64]:
    """(n,) chances that give each collection its share and, if wanted, each of its persons as much.

    A collection without a row to draw, such as a cohort that is this fold's test part, leaves its share to
    the others.
    """
    patient = slices.patient_of(rows)
    collection = np.asarray(slices.collections)[patient]
    person = np.unique(slices.persons, return_inverse=True)[1][patient]
    shared = np.zeros(len(rows))
    for names, share in _groups(slices, sampling):
        part = np.where(np.isin(collection, names), chance, 0.0)
        if sampling.within == "persons":
            total = np.bincount(person, weights=part)[person]
            part = np.divide(part, total, out=np.zeros_like(part), where=part > 0)
        if part.any():
            shared += share * part / part.sum()
    if not shared.any():
        raise UsageError(
            "the collections with a share have no slice to draw",
            remedy="check sampling.collections, sampling.slices and sampling.free_weight",
        )
    return np.asarray(shared / shared.sum())


def _groups(slices: PackedSlices, sampling: Sampling) -> list[tuple[list[str], float]]:
    """Collections that share a part of the draws, and that part."""
    known = sorted(set(slices.collections))
    groups = [(key.split("+"), share) for key, share in sampling.collections.items()]
    groups = groups or [(known, 1.0)]
    named = [name for names, _ in groups for name in names]
    for name in named:
        if name not in known or named.count(name) > 1:
            problem = "there is no collection" if name not in known else "two shares for"
            choices = ", ".join(filter(None, known)) or "none: gliosight data index NAME=PATH"
            raise UsageError(
                f"{problem} {printable(name)!r}", remedy=f"the data's collections are {choices}"
            )
    if missing := [name for name in known if name not in named]:
        raise UsageError(
            f"no share for the collection {printable(missing[0])!r}",
            remedy="name it in sampling.collections; 0 leaves it out",
        )
    return groups
