"""What the input gate knows: features of true and of foreign pictures, its numbers, and how well it tells.

    python benchmarks/gate.py features --data manifest.csv --cache CACHE.npz [--part 0/2]
    python benchmarks/gate.py fit --data manifest.csv --cache CACHE.npz ... [--card CARD.json]
    python benchmarks/gate.py table --data DATA

Needs scikit-image for its photographs (``pip install scikit-image``). `fit` prints the share of true studies
that pass by networks' numbers that have not seen their cohort, and the share of foreign pictures that are
stopped by numbers that have not seen their kind.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from foreign import MADE, REMAPS, shuffled, zoomed
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.analysis import Status
from gliosight.familiar import CLIPPED, STACK
from gliosight.gate import probe
from gliosight.head import find_head
from gliosight.infer.model import load_model
from gliosight.maps import turned
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.pipeline import analyze, read_study
from gliosight.prepare import orient, prepare
from gliosight.study import Geometry, MrSequence, Study, Volume

Floats = NDArray[np.float32]
# Slices that are taken of a study for the examples made from it.
TAKEN = 6
TRUE, CONTRAST, PLANE, OTHER = range(4)


def as_study(values: NDArray[np.generic], spacing: tuple[float, float, float] | None) -> Study:
    """A FLAIR-only study of axial slices in the network's directions."""
    geometry = None
    if spacing is not None:
        origins = np.zeros((len(values), 3))
        origins[:, 2] = spacing[0] * np.arange(len(values))
        geometry = Geometry(
            origins, np.array([0.0, -1, 0]), np.array([-1.0, 0, 0]), spacing[1:], spacing[0]
        )
    values = np.ascontiguousarray(values)
    names = tuple(str(k) for k in range(len(values)))
    return Study("x", {MrSequence.FLAIR: Volume(values, geometry)}, names, kind="arrays")


class Extractor:
    """Features of a study as the tool sees it."""

    def __init__(self) -> None:
        self.model = load_model("joint-4", threads=1)
        self.rows: dict[str, list[object]] = {
            key: [] for key in ("label", "kind", "cohort", "name", "variant", "n")
        }
        self.features: list[Floats] = []

    def add(
        self,
        study: Study,
        label: int,
        kind: str,
        cohort: str,
        name: str,
        variant: str,
        slices: int = TAKEN,
    ) -> None:
        """Keep the features of a study, if there is anything to see."""
        network_input = prepare(study, self.model.card.input)
        if not network_input.assessable:
            return
        images = probe(network_input, slices)
        features = self.model.describe(images)
        for key, value in zip(
            self.rows, (label, kind, cohort, name, variant, len(features)), strict=True
        ):
            self.rows[key].append(value)
        self.features.append(features.astype(np.float16))

    def save(self, path: Path) -> None:
        """Write all of them."""
        arrays = {key: np.array(values) for key, values in self.rows.items()}
        np.savez(path, features=np.concatenate(self.features), **arrays)


def true_variants(
    rng: np.random.Generator, flair: Floats, head: NDArray[np.bool_]
) -> Iterator[tuple[str, Floats]]:
    """What scanners, exports and people do to a FLAIR stack, which stays one."""
    low, high = np.percentile(flair, (1, 99.5))
    span = max(float(high - low), 1e-6)
    unit = ((flair - low) / span).astype(np.float32)
    yield "left-right", unit[:, :, ::-1]
    yield "upside down", unit[:, ::-1]
    factor = rng.uniform(0.4, 0.7)
    coarse = ndimage.zoom(
        ndimage.gaussian_filter(unit, (0, 0.4 / factor, 0.4 / factor)), (1, factor, factor), order=1
    )
    yield (
        "coarse",
        ndimage.zoom(
            coarse, [n / m for n, m in zip(unit.shape, coarse.shape, strict=True)], order=1
        ),
    )
    sigma = rng.uniform(0.02, 0.08)
    yield (
        "noise",
        np.hypot(
            unit + sigma * rng.standard_normal(unit.shape), sigma * rng.standard_normal(unit.shape)
        ).astype(np.float32),
    )
    y, x = np.mgrid[-1 : 1 : unit.shape[1] * 1j, -1 : 1 : unit.shape[2] * 1j]
    field = np.exp(
        rng.uniform(-0.4, 0.4) * y
        + rng.uniform(-0.4, 0.4) * x
        + rng.uniform(-0.4, 0.4) * (x**2 + y**2)
    )
    yield "bias", (unit * field).astype(np.float32)
    yield "gamma", np.clip(unit, 0, None) ** np.float32(np.exp(rng.uniform(-0.35, 0.35)))
    yield "8 bit", np.clip(unit * rng.uniform(200, 320), 0, 255).astype(np.uint8)
    rows, columns = (np.flatnonzero(head.any(axis=(0, 2 - k))) for k in (0, 1))
    if len(rows) and len(columns):
        yield "tight", unit[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        wide = [(0, 0), *[(int(n), int(n)) for n in rng.integers(0, 60, 2)]]
        yield "wide", np.pad(unit, wide)
    size = np.sqrt(head.sum(axis=(1, 2)).max())
    depth = np.stack([ndimage.distance_transform_edt(plane) for plane in head])
    yield "stripped", np.where(depth > rng.uniform(0.06, 0.1) * size, unit, 0).astype(np.float32)


def shaded(rng: np.random.Generator, values: Floats) -> Floats:
    """Sometimes coarse, sometimes with a coil's shading, sometimes turned or cut."""
    values = values - values.min()
    if rng.random() < 0.4:
        factor = rng.uniform(0.4, 0.8)
        values = ndimage.zoom(
            ndimage.gaussian_filter(values, (0, 0.4 / factor, 0.4 / factor)),
            (1, factor, factor),
            order=1,
        )
    if rng.random() < 0.5:
        y, x = np.mgrid[-1 : 1 : values.shape[1] * 1j, -1 : 1 : values.shape[2] * 1j]
        values = values * np.exp(
            rng.uniform(-1, 1) * y + rng.uniform(-1, 1) * x + rng.uniform(-0.5, 1) * (x**2 + y**2)
        )
    if rng.random() < 0.3:
        values = np.rot90(values, int(rng.integers(1, 4)), (1, 2))
    return values.astype(np.float32)


def planes(
    values: NDArray[np.generic], spacing: tuple[float, float, float]
) -> Iterator[tuple[str, Floats]]:
    """Coronal and sagittal slices through the middle of an axial stack, with even pixels."""
    for name, axis in (("coronal", 1), ("sagittal", 2)):
        moved = np.moveaxis(values, axis, 0)[:, ::-1]  # (across, up to down, the rest)
        profile = moved.reshape(len(moved), -1).astype(np.float64).std(axis=1)
        inside = np.flatnonzero(profile > 0.5 * profile.max())
        chosen = np.linspace(
            inside[0] + 0.15 * np.ptp(inside), inside[-1] - 0.15 * np.ptp(inside), TAKEN
        ).astype(int)
        fine = ndimage.zoom(
            moved[chosen].astype(np.float32), (1, spacing[0] / spacing[3 - axis], 1), order=1
        )
        side = max(fine.shape[1:])
        extra = [side - n for n in fine.shape[1:]]
        yield name, np.pad(fine, [(0, 0), *[(n // 2, n - n // 2) for n in extra]])


def from_head(  # noqa: C901 - a plain list of steps
    out: Extractor, study: Study, cohort: str, name: str, *, phantom: bool = False
) -> None:
    """A true study, its variants, and everything foreign made of it."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kind = "phantom" if phantom else "FLAIR"
    out.add(study, TRUE, kind, cohort, name, "whole", 8)
    order, flipped = orient(study.geometry)
    full = {
        key: turned(v.values, order, flipped).astype(np.float32)
        for key, v in study.sequences.items()
    }
    flair = full[MrSequence.FLAIR]
    if study.geometry is None:
        spacing = (5.0, 0.9375, 0.9375)
    else:
        native = (study.geometry.slice_spacing or 5.0, *study.geometry.spacing)
        spacing = (native[order[0]], native[order[1]], native[order[2]])
    given = None if study.geometry is None else spacing
    head = find_head(flair)
    area = head.sum(axis=(1, 2))
    inside = np.flatnonzero(area > 0.25 * area.max())
    chosen = np.unique(np.linspace(inside[0], inside[-1], TAKEN).astype(int))
    edge = np.unique(np.concatenate([chosen, np.flatnonzero(area > 0.1 * area.max())[[0, -1]]]))
    for k in edge:
        out.add(
            as_study(flair[k : k + 1], given),
            TRUE,
            kind,
            cohort,
            name,
            f"single {k / len(flair):.2f}",
            1,
        )
    part, inside_part = flair[chosen], head[chosen]
    coarse_spacing = None if given is None else (15.0, *given[1:])
    for variant, values in true_variants(rng, part, inside_part):
        out.add(
            as_study(values, coarse_spacing if len(values) > 1 or given is None else given),
            TRUE,
            kind,
            cohort,
            name,
            variant,
        )
    for key in (MrSequence.T1, MrSequence.T1C):
        if key in full:
            out.add(as_study(full[key], given), CONTRAST, key.value, cohort, name, "whole")
            for k in rng.choice(chosen, 2, replace=False):
                out.add(
                    as_study(full[key][k : k + 1], given),
                    CONTRAST,
                    key.value,
                    cohort,
                    name,
                    "single",
                    1,
                )
    t1 = full.get(MrSequence.T1, flair)[chosen]
    for remap, make in REMAPS.items():
        if remap in ("T2-like", "PD-like") and MrSequence.T1 not in full:
            continue
        values = make(rng, part, t1, inside_part)
        out.add(as_study(values, coarse_spacing), CONTRAST, remap, cohort, name, remap)
        k = int(rng.integers(1, max(2, len(values) - 1))) if len(values) > 1 else 0
        out.add(as_study(values[k : k + 1], given), CONTRAST, remap, cohort, name, "single", 1)
    for key in (MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C):
        if key in full and len(flair) > 15:
            for plane, values in planes(full[key], spacing):
                label = plane if key is MrSequence.FLAIR else f"{plane} {key.value}"
                picture = shaded(rng, values)
                out.add(as_study(picture, None), PLANE, label, cohort, name, "stack")
                k = int(rng.integers(len(picture)))
                out.add(as_study(picture[k : k + 1], None), PLANE, label, cohort, name, "single", 1)
    out.add(as_study(zoomed(rng, part, inside_part), None), OTHER, "zoomed", cohort, name, "")
    out.add(as_study(shuffled(rng, part), None), OTHER, "shuffled", cohort, name, "")


def photographs() -> Iterator[tuple[str, Floats]]:
    """scikit-image's own pictures, in grey."""
    import skimage
    from PIL import Image

    folder = Path(skimage.__file__).parent / "data"
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".jpg") and path.stem not in ("phantom",):
            yield path.stem, np.asarray(Image.open(path).convert("L"), np.float32)


TEXTS = ("page", "text", "logo", "clock_motion")


def features(manifest: Path, cache: Path, part: int, parts: int) -> None:  # noqa: C901 - a plain list of steps
    """Extract and keep the features of all that there is."""
    out = Extractor()
    studies: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(manifest.open()):
        studies.setdefault(row["patient"], row)
    start = time.time()
    for number, (name, row) in enumerate(studies.items()):
        if number % parts != part:
            continue
        cohort = row["institution"] or row["collection"]
        study = read_study((manifest.parent / row["image"]).parent)
        from_head(out, study, "raw" if name.startswith("raw") else cohort, name)
        if number % 10 < parts:
            print(name, f"{time.time() - start:.0f} s", flush=True)
            out.save(cache)
    for seed in range(part, 24, parts):
        spec = PhantomSpec(seed=seed, lesion=seed % 3 > 0, skull=seed % 4 > 0, slice_spacing_mm=4.0,
                           slices=40,
                           noise=0.02 + 0.01 * (seed % 4))  # fmt: skip
        from_head(out, make_phantom(spec).study(), "phantom", spec.study_id, phantom=True)
    for kind, make in MADE.items():
        for seed in range(part, 60, parts):
            rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
            values = make(rng)
            single = seed % 2 == 0
            out.add(
                as_study(values[:1] if single else values, None),
                OTHER,
                kind,
                "made",
                f"{kind}-{seed}",
                "single" if single else "stack",
            )
    for number, (name, picture) in enumerate(photographs()):
        if number % parts != part:
            continue
        rng = np.random.default_rng(number)
        kind = "page" if name in TEXTS else "photograph"
        out.add(as_study(picture[None], None), OTHER, kind, "skimage", name, "whole", 1)
        for crop in range(8):
            side = int(rng.uniform(0.35, 0.9) * min(picture.shape))
            y, x = (int(rng.integers(0, n - side + 1)) for n in picture.shape)
            out.add(
                as_study(picture[None, y : y + side, x : x + side], None),
                OTHER,
                kind,
                "skimage",
                name,
                f"crop {crop}",
                1,
            )
    out.save(cache)
    print("done", f"{time.time() - start:.0f} s", flush=True)


# What each of the three functions is fitted on, by its code, and how much more some kinds weigh.
GROUPS = {
    **dict.fromkeys(("T1", "T1C"), "T1"),
    **{f"{plane}{of}": "plane" for plane in ("coronal", "sagittal") for of in ("", " T1", " T1C")},
    **dict.fromkeys(("page", "text", "graphs"), "text"),
}
HEADS = {"T1", "PD-like", "T2-like", "DWI-like", "MRA-like", "inverted", "CT-like"}
NOT_HEADS = {"photograph", "text", "noise", "texture", "dots", "abdomen", "chest", "spine", "knee", "limb",
             "zoomed", "shuffled", "CT-like", "inverted", "T2-like", "DWI-like", "MRA-like"}  # fmt: skip
PARTS = {
    "NOT_A_HEAD": (NOT_HEADS, {}, 1e-3),
    "NOT_FLAIR": (HEADS, {"T1": 4.0}, 1e-4),
    "NOT_AXIAL": ({"plane"}, {}, 1e-4),
}
FOLDS = 5
# A study is refused where fewer than this part of the true ones lie: single slices, stacks.
REFUSED = (0.996, 0.999)
# ... and this much farther, for scanners that are not among them.
MARGIN = np.array([[1.1], [1.2]])
# Unusual begins at this part of the way from the median to there.
UNUSUAL_FROM = 0.8


class Examples:
    """The cached features, one row an example, and sums of products for the regressions."""

    def __init__(self, caches: list[Path], persons: dict[str, str]) -> None:
        parts = [np.load(cache) for cache in caches]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0].files}
        self.n, self.cohort, self.variant = joined["n"], joined["cohort"], joined["variant"]
        self.true = joined["label"] == TRUE
        self.kind = np.array([GROUPS.get(str(kind), str(kind)) for kind in joined["kind"]])
        self.real = self.true & (self.kind == "FLAIR")
        self.kind[self.true] = "true"
        self.single = self.n < STACK
        names = [persons.get(str(name), str(name)) for name in joined["name"]]
        self.fold = np.array([zlib.crc32(name.encode()) % FOLDS for name in names])
        self.starts = np.cumsum(self.n) - self.n
        self.row = np.repeat(np.arange(len(self.n)), self.n)
        features = joined["features"].astype(np.float32)
        of_true = features[self.real[self.row]]
        self.mean, self.scale = of_true.mean(axis=0), of_true.std(axis=0) + 1e-3
        standard = np.clip((features - self.mean) / self.scale, -CLIPPED, CLIPPED)
        self.rows = np.c_[standard, np.full(len(standard), CLIPPED)].astype(np.float32)
        # Cohorts of true studies weigh by the root of their size, single slices double.
        self.weight = np.ones(len(self.n))
        for cohort in np.unique(self.cohort[self.true]):
            members = self.true & (self.cohort == cohort)
            self.weight[members] = members.sum() ** -0.5
        self.weight[self.true & self.single] *= 2

    def sums(
        self, key: NDArray[np.generic]
    ) -> dict[tuple[str, str], tuple[NDArray, NDArray, float]]:
        """Weighted sums of products, sums and weights, for each value of ``key`` and each kind."""
        out = {}
        for value in np.unique(key):
            for kind in np.unique(self.kind):
                members = (key == value) & (self.kind == kind)
                rows = np.flatnonzero(members[self.row])
                if len(rows):
                    weight = (self.weight / self.n)[self.row[rows]].astype(np.float32)
                    part = self.rows[rows]
                    out[str(value), str(kind)] = (
                        (part.T * weight) @ part,
                        part.T @ weight,
                        float(weight.sum()),
                    )
        return out

    def scores(self, solution: NDArray[np.floating]) -> NDArray[np.floating]:
        """Mean over the slices of each example."""
        return np.add.reduceat(self.rows @ solution.astype(np.float32), self.starts) / self.n


def regress(
    sums: dict, code: str, *, without: str = "", without_kind: str = ""
) -> NDArray[np.floating]:
    """Ridge regression to -1 on true slices, 1 on foreign ones; kinds weigh the same but for `PARTS`."""
    kinds, more, ridge = PARTS[code]
    groups = {"true": 1.0} | {kind: more.get(kind, 1.0) for kind in kinds - {without_kind}}
    chosen = {
        kind: [key for key in sums if key[1] == kind and key[0] != without] for kind in groups
    }
    groups = {kind: weight for kind, weight in groups.items() if chosen[kind]}
    total = sum(weight for kind, weight in groups.items() if kind != "true")
    size = len(next(iter(sums.values()))[1])
    products, right = np.zeros((size, size)), np.zeros(size)
    for kind, weight in groups.items():
        sign, share = (-1.0, 1.0) if kind == "true" else (1.0, weight / total)
        weights = sum(sums[key][2] for key in chosen[kind])
        for key in chosen[kind]:
            products += sums[key][0] * share / weights
            right += sign * sums[key][1] * share / weights
    # Standardised features go to 8 here: the ridge is that of features from -1 to 1.
    products[np.diag_indices(size - 1)] += ridge * CLIPPED**2
    return np.linalg.solve(products, right)


def fit(data: Path, caches: list[Path], model: Path | None) -> None:  # noqa: C901 - a plain list of steps
    """Fit, print the honest figures, and write the numbers beside the card."""
    persons = {
        row["patient"]: row["person"] or row["patient"] for row in csv.DictReader(data.open())
    }
    examples = Examples(caches, persons)
    by_fold, by_cohort = examples.sums(examples.fold.astype(str)), examples.sums(examples.cohort)
    shape = (len(examples.n), len(PARTS))
    crossed, cohort_out, kind_out, shipped = (
        np.empty(shape),
        np.full(shape, -np.inf),
        np.full(shape, -np.inf),
        np.empty(shape),
    )
    solutions = []
    foreign = [kind for kind in np.unique(examples.kind) if kind != "true"]
    for k, code in enumerate(PARTS):
        solutions.append(regress(by_fold, code))
        shipped[:, k] = examples.scores(solutions[-1])
        for fold in range(FOLDS):
            members = examples.fold == fold
            crossed[members, k] = examples.scores(regress(by_fold, code, without=str(fold)))[
                members
            ]
        for cohort in np.unique(examples.cohort[examples.real]):
            members = examples.cohort == cohort
            cohort_out[members, k] = examples.scores(regress(by_cohort, code, without=str(cohort)))[
                members
            ]
        for kind in foreign:
            members = examples.kind == kind
            if PARTS[code][0] - {str(kind)}:
                kind_out[members, k] = examples.scores(
                    regress(by_fold, code, without_kind=str(kind))
                )[members]
    typical = np.median(crossed[examples.real], axis=0)
    ends = [np.quantile(crossed[examples.real & members], part, axis=0)
            for members, part in zip((examples.single, ~examples.single), REFUSED, strict=True)]  # fmt: skip
    limits = typical + UNUSUAL_FROM * MARGIN * (np.stack(ends) - typical)
    bound = limits[np.where(examples.single, 0, 1)]

    def levels(scores: NDArray[np.floating]) -> NDArray[np.floating]:
        return ((scores - typical) / (bound - typical)).max(axis=1)

    refused_from = 1 / UNUSUAL_FROM
    print("true, passed by numbers that have not seen the person | the cohort; warned of (person)")
    for cohort in [*np.unique(examples.cohort[examples.real]), "phantom"]:
        for what, chosen in (
            ("whole", examples.variant == "whole"),
            ("changed", (examples.variant != "whole") & ~examples.single),
            ("single", examples.single),
        ):
            members = examples.true & (examples.cohort == cohort) & chosen
            parts = [levels(scores)[members] for scores in (crossed, cohort_out)]
            print(
                f"  {cohort:8} {what:8} {members.sum():5} {np.mean(parts[0] < refused_from):.3f} "
                f"{np.mean(parts[1] < refused_from):.3f} {np.mean(parts[0] >= 1):.3f}"
            )
    print("foreign, stopped by numbers that have not seen the person or picture | the kind")
    for kind in foreign:
        for what, chosen in (("stack", ~examples.single), ("single", examples.single)):
            members = (examples.kind == kind) & chosen
            if members.any():
                parts = [levels(scores)[members] for scores in (crossed, kind_out)]
                print(
                    f"  {kind:10} {what:7} {members.sum():5} {np.mean(parts[0] >= refused_from):.3f} "
                    f"{np.mean(parts[1] >= refused_from):.3f}"
                )
    if model is not None:
        weights = np.stack(solutions)
        arrays = {"mean": examples.mean, "scale": examples.scale, "weights": weights[:, :-1],
                  "intercepts": CLIPPED * weights[:, -1],
                  "typical": typical, "limits": limits, "refused_from": np.float32(refused_from)}  # fmt: skip
        buffer = io.BytesIO()
        np.savez(
            buffer, **{name: np.asarray(values, np.float32) for name, values in arrays.items()}
        )
        path = model.with_name(f"{model.stem}-gate.npz")
        path.write_bytes(buffer.getvalue())
        card = json.loads(model.read_text("utf-8"))
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        file = {"file": path.name, "sha256": digest}
        card = {
            k: v
            for key, value in card.items()
            if key != "familiar"
            for k, v in ([(key, value), ("familiar", file)] if key == "flip" else [(key, value)])
        }
        model.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        print(path.name, len(buffer.getvalue()), digest)


def table(data: Path) -> None:
    """What `gliosight.analyze` makes of foreign input that no number was fitted on: real DICOM, and more."""
    import pydicom
    import pydicom.data
    from pydicom.pixels import pixel_array

    stacks: list[tuple[str, NDArray[np.generic]]] = []
    for folder in sorted((data / "dicom").iterdir()):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        headers = [pydicom.dcmread(path, force=True) for path in files]
        first = pixel_array(headers[0])
        values = first if first.ndim == 3 else None
        if values is None:
            headers.sort(key=lambda header: float(header.get("SliceLocation", 0) or 0))
            values = np.stack(
                [part for part in map(pixel_array, headers) if part.shape == first.shape][:200]
            )
        stacks.append((folder.name, values))
        stacks += [
            (f"{folder.name}, plane {axis}", np.moveaxis(values, axis, 0)[20:-20:8])
            for axis in (1, 2)
        ]
        stacks.append((f"{folder.name}, one slice", values[len(values) // 2 :][:1]))
    folder = Path(pydicom.data.__file__).parent / "test_files"
    for name in ("693_J2KI", "CT_small", "J2K_pixelrep_mismatch", "MR_small", "JPEG2000", "examples_overlay",
                 "examples_jpeg2k", "examples_palette", "examples_rgb_color"):  # fmt: skip
        values = pixel_array(folder / f"{name}.dcm")
        values = values.mean(axis=-1) if values.shape[-1] == 3 else values
        stacks.append((name, values if values.ndim == 3 else values[None]))
    for kind, make in MADE.items():
        stacks += [(kind, make(np.random.default_rng(1000 + seed))) for seed in range(5)]
    stopped = 0
    for name, values in stacks:
        analysis = analyze(as_study(values.astype(np.float32), None))
        check = analysis.input_check
        refused = analysis.status is Status.NOT_ASSESSED
        stopped += refused
        distance = "" if check.distance is None else f"{check.distance:.2f}"
        print(
            f"{name:45} {analysis.status.value:16} {check.level:8} {check.code or '':14} {distance}"
        )
    print(f"{stopped} of {len(stacks)} are not assessed")


def main() -> int:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    extract = commands.add_parser("features")
    extract.add_argument("--data", type=Path, required=True)
    extract.add_argument("--cache", type=Path, required=True)
    extract.add_argument("--part", default="0/1")
    fitting = commands.add_parser("fit")
    fitting.add_argument("--data", type=Path, required=True)
    fitting.add_argument("--cache", type=Path, nargs="+", required=True)
    fitting.add_argument("--card", type=Path)
    listing = commands.add_parser("table")
    listing.add_argument("--data", type=Path, required=True, help="folder that holds dicom/")
    args = parser.parse_args()
    if args.command == "features":
        part, parts = map(int, args.part.split("/"))
        features(args.data, args.cache, part, parts)
    elif args.command == "fit":
        fit(args.data, args.cache, args.card)
    else:
        table(args.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
