"""The input gate: its pictures, its network, its limits, and how well it tells.

    python benchmarks/gate.py pictures --data manifest.csv --cache CACHE.npz [--part 0/2]
    python benchmarks/gate.py train --data manifest.csv --cache CACHE.npz ... --runs DIR --without WHAT ...
    python benchmarks/gate.py fit --data manifest.csv --cache CACHE.npz ... --runs DIR [--card CARD.json]
    python benchmarks/gate.py table --data DATA

WHAT is ``nothing``, ``fold:0`` to ``fold:2``, ``cohort:brats`` and the like (``cohort:LGG`` is all five
institutions), or ``kind:T1``. `fit` sets the limits on the folds. It prints the share of true studies that
pass, and of foreign ones that are stopped, by networks that have not seen the person, the cohort or the
kind. It writes the network of ``nothing`` beside the card. Needs scikit-image for its photographs and torch.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
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
from gliosight.card import read_card
from gliosight.gate import STACK, foreign_odds, pictures
from gliosight.head import find_head
from gliosight.infer.model import find_card
from gliosight.maps import turned
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.pipeline import analyze, read_study
from gliosight.prepare import orient, prepare
from gliosight.study import Geometry, MrSequence, Study, Volume

Floats = NDArray[np.float32]
# Slices that are taken of a study for the examples made from it.
TAKEN = 6
# Pixels along a side of a picture.
SIDE = 80
# The order of the network's answers.
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


class Pictures:
    """Small pictures of studies as the gate sees them, and what each of them is."""

    def __init__(self) -> None:
        self.recipe = read_card(find_card("joint-4")).input
        self.rows: dict[str, list[object]] = {
            key: [] for key in ("label", "kind", "cohort", "name", "variant", "n")
        }
        self.pictures: list[NDArray[np.uint8]] = []

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
        """Keep the pictures of a study, if there is anything to see."""
        network_input = prepare(study, self.recipe)
        if not network_input.assessable:
            return
        small = pictures(network_input, SIDE, slices)
        for key, value in zip(
            self.rows, (label, kind, cohort, name, variant, len(small)), strict=True
        ):
            self.rows[key].append(value)
        self.pictures.append(np.round(255 * small).astype(np.uint8))

    def save(self, path: Path) -> None:
        """Write all of them."""
        arrays = {key: np.array(values) for key, values in self.rows.items()}
        np.savez(path, pictures=np.concatenate(self.pictures), **arrays)


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
    out: Pictures, study: Study, cohort: str, name: str, *, phantom: bool = False
) -> None:
    """A true study, its variants, and everything foreign made of it."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kind = "phantom" if phantom else "FLAIR"
    out.add(study, TRUE, kind, cohort, name, "whole", 32)
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
            out.add(as_study(full[key], given), CONTRAST, key.value, cohort, name, "whole", 32)
            for k in rng.choice(chosen, 3, replace=False):
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
        for _ in range(8 if remap == "contrast" else 2):
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


def collect(manifest: Path, cache: Path, part: int, parts: int) -> None:  # noqa: C901 - a plain list of steps
    """Make and keep the pictures of all that there is."""
    out = Pictures()
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
    for seed in range(part, 24, parts):
        spec = PhantomSpec(seed=seed, lesion=seed % 3 > 0, skull=seed % 4 > 0, slice_spacing_mm=4.0,
                           slices=40,
                           noise=0.02 + 0.01 * (seed % 4))  # fmt: skip
        from_head(out, make_phantom(spec).study(), "phantom", spec.study_id, phantom=True)
    for kind, make in MADE.items():
        for seed in range(part, 120, parts):
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
        for crop in range(16):
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


# Kinds that count as one, and how often some are drawn in training.
GROUPS = {
    **dict.fromkeys(("T1", "T1C"), "T1"),
    **{f"{plane}{of}": "plane" for plane in ("coronal", "sagittal") for of in ("", " T1", " T1C")},
    **dict.fromkeys(("page", "text", "graphs"), "text"),
}
OFTEN = {"T1": 8.0, "contrast": 2.0, "limb": 2.0, "photograph": 2.0, "phantom": 0.6}
# Parts of a batch: true pictures, other contrasts, other planes, anything else.
SHARES = {TRUE: 0.42, CONTRAST: 0.36, PLANE: 0.09, OTHER: 0.13}
LGG = ("CS", "DU", "EZ", "FG", "HT")
FOLDS = 3
# A study is refused beyond this part of the true ones: single slices, stacks and their changes. It is unusual
# from this part of the way there from the median.
PASSED = (0.99, 0.992)
UNUSUAL_FROM = 0.9


class Examples:
    """The pictures of all examples; an example is a study, or a part or a change of one."""

    def __init__(self, caches: list[Path], persons: dict[str, str]) -> None:
        parts = [np.load(cache) for cache in caches]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0].files}
        self.pictures, self.label, self.n = joined["pictures"], joined["label"], joined["n"]
        self.cohort, self.variant = joined["cohort"], joined["variant"]
        self.true = self.label == TRUE
        self.real = self.true & (joined["kind"] == "FLAIR")
        self.kind = np.array([GROUPS.get(str(kind), str(kind)) for kind in joined["kind"]])
        self.kind[self.true] = "true"
        self.single = self.n < STACK
        names = [persons.get(str(name), str(name)) for name in joined["name"]]
        self.fold = np.array([str(zlib.crc32(name.encode()) % FOLDS) for name in names])
        self.row = np.repeat(np.arange(len(self.n)), self.n)
        self.starts = np.cumsum(self.n) - self.n

    def without(self, what: str) -> NDArray[np.bool_]:
        """Examples that a training may see which leaves out a ``fold:``, ``cohort:`` or ``kind:``."""
        key, _, value = what.partition(":")
        if key == "nothing":
            return np.ones(len(self.n), bool)
        if value == "LGG":
            return ~np.isin(self.cohort, LGG)
        left = {"fold": self.fold, "cohort": self.cohort, "kind": self.kind}[key] != value
        if left.all():
            raise SystemExit(f"there is no {what}")
        return left

    def weights(self, use: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How often each picture is drawn: cohorts of true studies by the root of their size, kinds alike."""
        weights = np.zeros(len(self.n))
        for label, share in SHARES.items():
            members = use & (self.label == label)
            key = self.cohort if label == TRUE else self.kind
            parts = {}
            for value in np.unique(key[members]):
                size = self.n[members & (key == value)].sum() ** 0.5 if label == TRUE else 1.0
                parts[str(value)] = float(size) * OFTEN.get(str(value), 1.0)
            for value, part in parts.items():
                chosen = members & (key == value)
                weights[chosen] = share * part / sum(parts.values()) / chosen.sum()
        each: NDArray[np.float64] = (weights / self.n)[self.row]
        return each

    def scores(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log odds that each example is foreign."""
        return np.add.reduceat(foreign_odds(logits.astype(np.float64)), self.starts) / self.n


def teach(data: Path, caches: list[Path], folder: Path, leave_out: list[str]) -> None:
    """Train a network for each of ``leave_out``; keep it, and its logits of all pictures."""
    import torch
    from gate_network import logits_of, train

    torch.set_num_threads(1)  # two processes of one thread are faster than one of two
    examples = Examples(caches, persons_of(data))
    folder.mkdir(parents=True, exist_ok=True)
    labels = examples.label[examples.row].astype(np.int64)
    for what in leave_out:
        print(f"without {what}", flush=True)
        weights = examples.weights(examples.without(what))
        network = train(examples.pictures, labels, weights)
        path = folder / what.replace(":", "-")
        np.save(path.with_suffix(".npy"), logits_of(network, examples.pictures).astype(np.float16))
        torch.save(network.state_dict(), path.with_suffix(".pt"))


def persons_of(data: Path) -> dict[str, str]:
    """The person of each patient of a manifest."""
    rows = csv.DictReader(data.open())
    return {row["patient"]: row["person"] or row["patient"] for row in rows}


def fit(data: Path, caches: list[Path], folder: Path, card: Path | None) -> None:
    """Set the limits on the folds, print all figures, and write the card."""
    examples = Examples(caches, persons_of(data))
    runs = {
        path.stem.replace("-", ":", 1): examples.scores(np.load(path))
        for path in sorted(folder.glob("*.npy"))
    }
    unseen = {by: np.full(len(examples.n), np.nan) for by in ("fold", "cohort", "kind")}
    for what, scores in runs.items():
        if what != "nothing":
            members = ~examples.without(what)
            unseen[what.partition(":")[0]][members] = scores[members]
    by_fold = unseen["fold"]
    scored = examples.real & ~np.isnan(by_fold)
    typical = float(np.median(by_fold[scored]))
    ends = [
        float(np.quantile(by_fold[scored & members], part))
        for members, part in zip((examples.single, ~examples.single), PASSED, strict=True)
    ]
    unusual = [typical + UNUSUAL_FROM * (end - typical) for end in ends]
    bound = np.where(examples.single, *unusual)
    levels = {by: (scores - typical) / (bound - typical) for by, scores in unseen.items()}
    refused_from = 1 / UNUSUAL_FROM
    print(
        f"typical {typical:.2f}, unusual from {unusual[0]:.2f} (single), {unusual[1]:.2f} (stack)"
    )
    sizes = (("stack", ~examples.single), ("single", examples.single))
    print("true, passed: person not seen | cohort not seen; warned of (person)")
    for cohort in [*np.unique(examples.cohort[examples.real]), "phantom"]:
        whole = examples.variant == "whole"
        for what, chosen in (("whole", whole), ("changed", ~whole & ~examples.single), sizes[1]):
            members = examples.true & (examples.cohort == cohort) & chosen
            person, other = (levels[by][members] for by in ("fold", "cohort"))
            parts = (part_of(person, 0, refused_from), part_of(other, 0, refused_from))
            print(f"  {cohort:8} {what:8}", *parts, part_of(person, 1, np.inf))
    print("foreign, stopped: person or picture not seen | kind not seen")
    for kind in np.unique(examples.kind[~examples.true]):
        for what, chosen in sizes:
            members = (examples.kind == kind) & chosen
            if members.any():
                parts = (
                    part_of(levels[by][members], refused_from, np.inf) for by in ("fold", "kind")
                )
                print(f"  {kind:10} {what:7}", *parts)
    if card is not None:
        write_gate(card, folder / "nothing.pt", typical, unusual, refused_from)


def part_of(levels: NDArray[np.float64], low: float, high: float) -> str:
    """The part of the scored levels that lies from ``low`` to below ``high``, and of how many."""
    scored = levels[~np.isnan(levels)]
    inside = (scored < high) & ((scored >= low) | (low == 0))
    return f"{inside.mean():.3f} of {len(scored)}" if len(scored) else "not scored"


def write_gate(
    card: Path, weights: Path, typical: float, unusual: list[float], refused_from: float
) -> None:
    """Write the network beside a model's card, and what its answers mean into the card."""
    import torch
    from gate_network import GateNetwork, export

    network = GateNetwork()
    network.load_state_dict(torch.load(weights, weights_only=True))
    content = export(network.eval(), SIDE)
    path = card.with_name(f"{card.stem}-gate.onnx")
    path.write_bytes(content)
    rule = {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "side": SIDE,
        "typical": round(typical, 3),
        "unusual_single": round(unusual[0], 3),
        "unusual_stack": round(unusual[1], 3),
        "refused_from": refused_from,
    }
    body = {**json.loads(card.read_text("utf-8")), "input_check": rule}
    card.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    print(path.name, len(content), rule)


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
    """Run one of the four."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    picturing = commands.add_parser("pictures")
    picturing.add_argument("--cache", type=Path, required=True)
    picturing.add_argument("--part", default="0/1")
    teaching = commands.add_parser("train")
    teaching.add_argument("--without", nargs="+", required=True)
    fitting = commands.add_parser("fit")
    fitting.add_argument("--card", type=Path)
    for command in (picturing, teaching, fitting):
        command.add_argument("--data", type=Path, required=True)
    for command in (teaching, fitting):
        command.add_argument("--cache", type=Path, nargs="+", required=True)
        command.add_argument("--runs", type=Path, required=True)
    listing = commands.add_parser("table")
    listing.add_argument("--data", type=Path, required=True, help="folder that holds dicom/")
    args = parser.parse_args()
    if args.command == "pictures":
        part, parts = map(int, args.part.split("/"))
        collect(args.data, args.cache, part, parts)
    elif args.command == "train":
        teach(args.data, args.cache, args.runs, args.without)
    elif args.command == "fit":
        fit(args.data, args.cache, args.runs, args.card)
    else:
        table(args.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
