"""``gliosight phantom``: write synthetic studies with known truth (layer: cli)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gliosight.cli.options import PATH
from gliosight.cli.output import print_text
from gliosight.errors import UsageError, printable

if TYPE_CHECKING:
    from gliosight.phantom.dicom import Placement

# How each value of --set is read; `Placement` checks what comes out.
_SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "oblique": float,
    "shift": float,
    "order": int,
    "flips": click.BOOL,
}


@click.command("phantom")
@click.option(
    "-o", "--out", type=PATH, required=True, help="Folder for the studies, one folder each."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["lgg", "nifti", "dicom"]),
    help="Slices in the LGG layout (no geometry), NIfTI, or DICOM as a scanner exports it.  "
    "[default: lgg]",
)
@click.option("--dicom", "as_dicom", is_flag=True, help="The same as --format dicom.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="DICOM: oblique=10,20,5 (degrees), shift=0,0,50 (mm), order=2,0,1, flips=no,yes,no; "
    "see docs/phantom.md.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="How many studies; each has the next seed.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1001),
    default=1,
    show_default=True,
    help="Seed of everything that is random.",
)
@click.option("--lesion/--no-lesion", default=True, help="With or without a lesion.")
@click.option(
    "--side",
    type=click.Choice(["left", "right"]),
    default="left",
    show_default=True,
    help="Side of the lesion, as seen by the patient.",
)
@click.option("--radius", type=float, default=None, metavar="MM", help="The lesion's radius.")
@click.option("--slices", type=int, default=None, help="Number of slices.")
@click.option("--spacing", type=float, default=None, metavar="MM", help="Distance between slices.")
@click.option("--strip", is_flag=True, help="Without skull and scalp.")
@click.option("--flair-only", is_flag=True, help="Leave T1 and T1C out.")
def command(
    out: Path,
    kind: str | None,
    as_dicom: bool,
    settings: tuple[str, ...],
    count: int,
    seed: int,
    lesion: bool,
    side: str,
    radius: float | None,
    slices: int | None,
    spacing: float | None,
    strip: bool,
    flair_only: bool,
) -> None:
    """Write synthetic studies: a head, with or without a lesion, and its true mask."""
    from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
    from gliosight.study import MrSequence

    if as_dicom and kind not in (None, "dicom"):
        raise UsageError(f"both --dicom and --format {kind}", remedy="give one of them")
    kind = "dicom" if as_dicom else kind or "lgg"
    if settings and kind != "dicom":
        raise UsageError("--set without --dicom", remedy="give both, or neither")
    write: Callable[[Phantom, Path], Path] = write_lgg if kind == "lgg" else write_nifti
    if kind == "dicom":
        from gliosight.phantom.dicom import write_dicom

        write = partial(write_dicom, placement=_placement(settings))
    fields = {
        "lesion": lesion,
        "lesion_side": side,
        "lesion_radius_mm": radius,
        "slices": slices,
        "slice_spacing_mm": spacing,
        "skull": not strip,
        "sequences": (MrSequence.FLAIR,) if flair_only else None,
    }
    chosen: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    try:
        specs = [PhantomSpec(seed=seed + number, **chosen) for number in range(count)]
    except ValueError as error:
        raise UsageError(str(error), remedy="see gliosight phantom --help") from error
    for spec in specs:
        phantom = make_phantom(spec)
        what = f"lesion {phantom.volume_ml:.1f} ml" if lesion else "no lesion"
        print_text(f"{printable(str(write(phantom, out)))}  {what}")


def _placement(settings: tuple[str, ...]) -> Placement:
    """Read the texts of --set."""
    from gliosight.phantom.dicom import Placement

    values: dict[str, Any] = {}
    for text in settings:
        name, _, value = text.partition("=")
        if name not in _SETTINGS:
            names = ", ".join(_SETTINGS)
            raise UsageError(f"no setting {name!r}", where="--set", remedy=f"choose from {names}")
        if name in values:
            raise UsageError(f"{name} is set twice", where="--set", remedy="give it once")
        try:
            values[name] = tuple(map(_SETTINGS[name], value.split(",")))
        except (ValueError, click.BadParameter) as error:
            what = f"{name} cannot be {value!r}"
            raise UsageError(what, where="--set", remedy="see docs/phantom.md") from error
    try:
        return Placement(**values)
    except ValueError as error:
        raise UsageError(str(error), where="--set", remedy="see docs/phantom.md") from error
