"""``gliosight data``: index, describe, show, audit, split and download a data set (layer: cli)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gliosight.cli import SuggestingGroup
from gliosight.cli.options import PATH
from gliosight.cli.output import print_json, print_text, progress_display
from gliosight.errors import (
    DamagedInputError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
    printable,
)
from gliosight.extras import needs_extra

if TYPE_CHECKING:
    from gliosight.data.describe import Group, Look, Summary
    from gliosight.data.drawing import Mark
    from gliosight.data.manifest import Manifest
    from gliosight.data.split import Split

_EPILOG = """\b
gliosight data index FOLDER -o manifest.csv
gliosight data split manifest.csv -o split.json
gliosight data audit manifest.csv --split split.json"""

_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an earlier output.")
_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON value instead of text."
)
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
_MANIFEST = click.argument("path", type=PATH, metavar="MANIFEST")
_SEED = click.IntRange(0, 2**32 - 1)
_SHARE = click.FloatRange(0, 1, max_open=True)
# Rows shown of a manifest, and problems of a check or reasons before a list breaks off.
HEAD, SHOWN = 5, 8
# Slices of one figure.
MOST_SHOWN = 50


@click.group("data", cls=SuggestingGroup, epilog=_EPILOG)
def command() -> None:
    """Prepare a data set for training: list its slices, check it, and split its patients."""


@command.command("index", short_help="Write a manifest: one row for each slice.")
@click.argument("roots", nargs=-1, required=True, metavar="ROOT...")
@click.option("-o", "--out", type=PATH, required=True, help="The manifest, a CSV file.")
@click.option(
    "--people",
    "people_file",
    type=PATH,
    metavar="TABLE",
    help="CSV file with the column patient, and with person or collection or both: which patients are "
    "the same person, and to which collection they belong.",
)
@click.option(
    "--tumour-free",
    multiple=True,
    metavar="NAME",
    help="Collection whose patients have no tumour and need no mask; may be repeated.",
)
@_OVERWRITE
@_JSON
@_QUIET
def index_command(
    roots: tuple[str, ...],
    out: Path,
    people_file: Path | None,
    tumour_free: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a manifest: one row for each slice.

    ROOT is a folder in the layout of the LGG data set, a folder of NIfTI cases (FLAIR and a segmentation
    by their names, as in BraTS), a folder with images/ and masks/, or a table such as data_mask.csv.

    Several ROOTs make one manifest of several collections. A collection has the name of its folder, or
    give NAME=PATH.
    """
    from gliosight.data.describe import summarize
    from gliosight.data.index import index_roots
    from gliosight.data.manifest import Manifest, check_file, write_manifest
    from gliosight.data.people import NOBODY, parse_roots, read_people

    check_file(out, overwrite=overwrite)
    people = read_people(people_file) if people_file else NOBODY
    parsed = parse_roots(roots)
    with progress_display("index", shown=not (quiet or as_json)) as progress:
        indexed = index_roots(
            parsed, out.parent, people=people, tumour_free=tumour_free, progress=progress
        )
    write_manifest(indexed.rows, out)
    summary = summarize(Manifest(indexed.rows, out.parent))
    whole = summary.whole
    if as_json and whole.slices:
        print_json({"manifest": str(out), **asdict(summary), "notes": list(indexed.notes)})
    elif not quiet and not as_json:
        persons = "" if summary.persons == whole.patients else f" of {summary.persons:,} persons"
        print_text(
            f"{_many(whole.patients, 'patient')}{persons}, {_many(whole.slices, 'slice')}, "
            f"{whole.tumour_slices:,} with tumour"
        )
        if summary.collections:
            _print_groups("collection", summary.collections)
        _print_flaws(summary)
        for note in indexed.notes:
            print_text(printable(note))
        print_text(f"manifest: {printable(str(out))}")
    if not whole.slices:
        remedy = "its column excluded says why, slice by slice"
        raise NothingReadableError("no slice can be used", where=out.name, remedy=remedy)


@command.command("describe", short_help="Describe a data set (page: extra evaluate).")
@_MANIFEST
@click.option("-o", "--out", type=PATH, help="Folder for describe.html, a page with plots.")
@_OVERWRITE
@_JSON
@_QUIET
def describe_command(
    path: Path, out: Path | None, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """Describe a data set: patients, slices, tumour, masks, sequences, institutions.

    With -o it also writes a page with plots (extra: evaluate). The page holds no patient's image.
    """
    from gliosight.data.describe import look, summarize
    from gliosight.data.manifest import check_file, read_manifest, write_whole

    manifest = read_manifest(path)
    page = None
    if out is not None:
        with needs_extra("evaluate"):
            from gliosight.data.drawing import PAGE, render_page
        page = out / PAGE
        check_file(page, overwrite=overwrite)
        if not manifest.used:
            what = "the manifest has no slice that can be used"
            remedy = "leave out -o; its column excluded says why"
            raise UnsupportedInputError(what, where=path.name, remedy=remedy)
    summary = summarize(manifest)
    with progress_display("describe", shown=not (quiet or as_json)) as progress:
        looked = look(manifest, progress)
    if page is not None:
        write_whole(page, render_page(manifest, path.name, summary, looked))
    if as_json:
        print_json({**asdict(summary), "files": asdict(looked), "page": page and str(page)})
    elif not quiet:
        _print_description(manifest, summary, looked)
        if page is not None:
            print_text(f"\npage: {printable(str(page))}")


@command.command("show", short_help="Draw slices and their masks (extra: evaluate).")
@_MANIFEST
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, MOST_SHOWN),
    default=5,
    show_default=True,
    help="How many slices.",
)
@click.option("--seed", type=_SEED, default=1, show_default=True, help="Seed of the choice.")
@click.option(
    "--patient", metavar="NAME", help="Only slices of this patient; its name in the manifest."
)
@click.option(
    "--slice",
    "numbers",
    type=int,
    multiple=True,
    metavar="NUMBER",
    help="This slice of --patient, with or without tumour; its number in the manifest. May be repeated.",
)
@click.option(
    "--mark",
    type=click.Choice(["filled", "see-through", "outline"]),
    default="filled",
    show_default=True,
    help="How the mask is drawn on the slice.",
)
@click.option("-o", "--out", type=PATH, required=True, help="The figure: .png, .jpg, .pdf or .svg.")
@click.option(
    "--flair", is_flag=True, help="Show FLAIR in grey, not the three channels as colours."
)
@_OVERWRITE
@_QUIET
def show_command(
    path: Path,
    count: int,
    seed: int,
    patient: str | None,
    numbers: tuple[int, ...],
    mark: Mark,
    out: Path,
    flair: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Draw slices: slice, mask, and slice with the mask in red (extra: evaluate).

    The slices are chosen at random from those with tumour, of all patients or of one; or name them.
    """
    from gliosight.data.manifest import check_file, read_manifest

    with needs_extra("evaluate"):
        from gliosight.data.drawing import check_suffix, choose_rows, draw_figure, write_figure

    check_suffix(out)
    if numbers and patient is None:
        raise UsageError("--slice without --patient", remedy="say whose slice: --patient NAME")
    if len(set(numbers)) > MOST_SHOWN:
        what = f"{len(set(numbers))} slices for one figure"
        raise UsageError(what, remedy=f"name at most {MOST_SHOWN}")
    check_file(out, overwrite=overwrite)
    manifest = read_manifest(path)
    rows = choose_rows(manifest, count, seed, patient=patient, numbers=numbers)
    write_figure(draw_figure(manifest, rows, flair=flair, mark=mark), out)
    if not quiet:
        for row in rows:
            print_text(f"{printable(row.key)}  {_many(row.area_px, 'pixel')}")
        print_text(f"figure: {printable(str(out))}")


@command.command("audit", short_help="Look for damage, contradictions and leaks.")
@_MANIFEST
@click.option("--split", "split_file", type=PATH, help="Check this split, too.")
@click.option(
    "--all", "every", is_flag=True, help=f"Print every problem, not only {SHOWN} of each check."
)
@_JSON
@_QUIET
def audit_command(
    path: Path, split_file: Path | None, every: bool, as_json: bool, quiet: bool
) -> None:
    """Look for damage, contradictions and leaks.

    The exit code is 0 if nothing was found and 4 if something was. What each check looks for, and what
    to do: docs/data.md.
    """
    from gliosight.data.audit import CHECKS, audit
    from gliosight.data.manifest import read_manifest
    from gliosight.data.split import read_split

    manifest = read_manifest(path)
    split = read_split(split_file, strict=False) if split_file else None
    with progress_display("audit", shown=not (quiet or as_json)) as progress:
        result = audit(manifest, split, progress)
    if as_json:
        print_json({"counts": result.counts, **asdict(result)})
    elif not quiet:
        counts = [(name, result.counts[name], text) for name, text in CHECKS.items()]
        _print_table(("check", "found", "what"), counts)
        for name, count in result.counts.items():
            problems = [problem for problem in result.problems if problem.check == name]
            if count:
                print_text(f"\n{name}")
            for problem in problems[: None if every else SHOWN]:
                print_text(f"  {printable(problem.subject)}  {printable(problem.text)}")
            if count > SHOWN and not every:
                print_text(f"  and {count - SHOWN:,} more, see --all or --json")
    if result.problems:
        raise click.exceptions.Exit(DamagedInputError.exit_code)


@command.command("split", short_help="Choose the patients to train on and those to score.")
@_MANIFEST
@click.option("-o", "--out", type=PATH, required=True, help="The split, a JSON file.")
@click.option(
    "--by",
    type=click.Choice(["patient", "slice", "institution"]),
    default="patient",
    show_default=True,
    help="What stays on one side; slice is the tutorial's way and leaks.",
)
@click.option(
    "--folds", type=click.IntRange(2, 1000), help="Number of folds, instead of three parts."
)
@click.option(
    "--validation",
    type=_SHARE,
    help="Share for validation: of all patients, or with folds of those outside the test fold.  "
    "[default: 0.1275; with folds 0.15]",
)
@click.option("--test", type=_SHARE, help="Share for the test.  [default: 0.15]")
@click.option(
    "--whole",
    multiple=True,
    metavar="COLLECTION",
    help="Keep all patients of this collection on one side; may be repeated, or separate several by commas.",
)
@click.option("--seed", type=_SEED, default=1, show_default=True, help="Seed of the shuffling.")
@_OVERWRITE
@_JSON
@_QUIET
def split_command(
    path: Path,
    out: Path,
    by: str,
    folds: int | None,
    validation: float | None,
    test: float | None,
    whole: tuple[str, ...],
    seed: int,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Choose which patients are trained on and which are scored.

    Makes three parts (train, validation, test) or several folds that are alike in collections,
    institutions and tumour volumes. With --by institution, each institution is a fold. No person is on
    two sides, except with --by slice.
    """
    from gliosight.data import split as splits
    from gliosight.data.manifest import check_file, read_manifest

    in_folds = folds is not None or by == "institution"
    for wrong, what, remedy in (
        (folds is not None and by != "patient", f"--folds with --by {by}", "leave out one of them"),
        (in_folds and test is not None, "--test with folds",
         "leave out --test: each fold is tested once"),
        (whole and by != "patient", f"--whole with --by {by}", "leave out one of them"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(what, remedy=remedy)
    collections = tuple(dict.fromkeys(name for text in whole for name in text.split(",")))
    check_file(out, overwrite=overwrite)
    manifest = read_manifest(path)
    share = 0.15 if validation is None else validation
    if folds is not None:
        split = splits.split_folds(manifest, folds, seed=seed, validation=share, whole=collections)
    elif in_folds:
        split = splits.split_institutions(manifest, seed=seed, validation=share)
    else:
        chosen = {splits.VALIDATION: validation, splits.TEST: test}
        shares = splits.DEFAULT_SHARES | {
            part: share for part, share in chosen.items() if share is not None
        }
        rest = 1 - shares[splits.VALIDATION] - shares[splits.TEST]
        if rest < -1e-9:  # less is the rounding of floats
            what = f"shares for validation and test of {1 - rest:g} in all"
            remedy = "leave a share for training: together they are 1 at most"
            raise UsageError(what, remedy=remedy)
        shares[splits.TRAIN] = max(rest, 0.0)
        split = splits.split_parts(manifest, by=by, seed=seed, shares=shares, whole=collections)
    splits.write_split(split, out)
    if by == "slice":
        print(
            "warning: by slice, a patient's slices fall on both sides and the scores say little: "
            "for the tutorial's protocol only",
            file=sys.stderr,
        )
    groups = _counts(manifest, split)
    if as_json:
        print_json({"split": str(out), "by": by, "seed": seed, "groups": groups})
    elif not quiet:
        counts = ("group", "patients", "slices", "tumour_slices")
        kinds = ("collections", "institutions") if manifest.collections else ("institutions",)
        header = [*(name.replace("_", " ") for name in counts), *(f"{k} (patients)" for k in kinds)]
        rows = []
        for group in groups:
            names = [" ".join(f"{name} {n}" for name, n in group[kind].items()) for kind in kinds]
            rows.append([*(group[name] for name in counts), *names])
        _print_table(header, rows)
        if split.has_folds and split.validation:
            print_text(f"of those outside the test fold, {split.validation:.0%} are for validation")
        print_text(f"split: {printable(str(out))}")


@command.command("download", short_help="Fetch the LGG data set (extra: download).")
@click.option("-o", "--out", type=PATH, required=True, help="Folder for the data set.")
@_QUIET
def download_command(out: Path, quiet: bool) -> None:
    """Fetch the LGG data set from Kaggle, about 1 GB (extra: download).

    Its publisher lists it under CC BY-NC-SA 4.0. Then: gliosight data index OUT -o manifest.csv
    """
    from gliosight.data.download import check_folder, download

    with needs_extra("download"):
        import kagglehub
    check_folder(out)
    if not quiet:
        print("fetching from Kaggle; this takes minutes", file=sys.stderr)
    folder = download(out, kagglehub)
    if not quiet:
        print_text(f"data set: {printable(str(folder))}")


def _counts(manifest: Manifest, split: Split) -> list[dict[str, Any]]:
    """Each group's counts, and its patients by collection (where there are any) and institution."""
    from gliosight.data.describe import NO_COLLECTION, NO_INSTITUTION, group_of

    groups: list[dict[str, Any]] = []
    for name, rows in split.rows_by_group(manifest).items():
        first = {row.patient: row for row in rows}.values()
        named = {"institutions": [row.institution or NO_INSTITUTION for row in first]}
        if manifest.collections:
            named = {"collections": [row.collection or NO_COLLECTION for row in first], **named}
        counts = {kind: dict(sorted(Counter(names).items())) for kind, names in named.items()}
        groups.append({"group": name, **asdict(group_of(rows)), **counts})
    return groups


def _print_description(manifest: Manifest, summary: Summary, looked: Look) -> None:
    """What the tutorial looks at with info, head and value_counts, and what it does not."""
    whole = summary.whole
    print_text(f"{_many(looked.rows, 'row')}, {_many(whole.patients, 'patient')}\n")
    columns = [tuple(asdict(column).values()) for column in looked.columns]
    _print_table(("column", "filled", "different"), columns, end="\n")
    head = [
        (row.patient, row.number, row.image, int(row.tumour), row.area_px)
        for row in manifest.rows[:HEAD]
    ]
    _print_table(("patient", "number", "image", "tumour", "area_px"), head, end="\n")
    part, without = whole.tumour_part, whole.slices - whole.tumour_slices
    classes = [("no", without, f"{1 - part:.1%}"), ("yes", whole.tumour_slices, f"{part:.1%}")]
    _print_table(("tumour", "slices", "part"), classes, end="\n")
    for values, count in looked.mask_values.items():
        print_text(f"masks with values {values}: {count:,}")
    if looked.mask_least is not None:
        print_text(f"masks: smallest value {looked.mask_least:g}, largest {looked.mask_most:g}")
    for words, count in looked.pictures.items():
        print_text(f"pictures {words}: {_many(count, 'patient')}")
    if looked.unreadable:
        print_text(f"{_many(looked.unreadable, 'file')} cannot be read, see: gliosight data audit")
    print_text("")
    quantiles = ("smallest", "quarter", "median", "quarter", "largest", "mean")
    spreads = [(words, *map(round, asdict(spread).values())) for words, spread in summary.spreads]
    _print_table(("spread", *quantiles), spreads, end="\n")
    if summary.collections:
        _print_groups("collection", summary.collections, end="\n")
    _print_groups("institution", summary.institutions)
    _print_flaws(summary)
    if whole.patients and not summary.tumour_free:
        print_text("every patient has a tumour: specificity by patient needs other brains")


def _print_groups(what: str, groups: Mapping[str, Group], end: str = "") -> None:
    header = (what, "patients", "slices", "tumour slices", "part", "tumour pixels")
    rows = [
        (name, g.patients, g.slices, g.tumour_slices, f"{g.tumour_part:.1%}", g.tumour_px)
        for name, g in groups.items()
    ]
    _print_table(header, rows, end=end)


def _print_flaws(summary: Summary) -> None:
    """Sequences that are missing, and slices that are excluded."""
    for name, patients in summary.missing.items():
        if patients:
            copies = len(summary.copied[name])
            how = f"; in {copies:,} a copy stands in its place" if copies else ""
            print_text(f"{name} is missing in {_many(len(patients), 'patient')}{how}")
    excluded = list(summary.excluded.items())
    if excluded:
        print_text(f"{_many(sum(summary.excluded.values()), 'slice')} excluded:")
    for reason, count in excluded[:SHOWN]:
        print_text(f"  {count:,}  {printable(reason)}")
    if rest := [count for _, count in excluded[SHOWN:]]:
        print_text(f"  {sum(rest):,}  for {_many(len(rest), 'other reason')}, see the manifest")


def _print_table(header: Sequence[str], rows: Iterable[Sequence[object]], end: str = "") -> None:
    """Columns as wide as they need to be, numbers to the right; then ``end``."""
    columns = []
    for cells in zip(header, *rows, strict=True):
        texts = [f"{cell:,}" if isinstance(cell, int) else printable(str(cell)) for cell in cells]
        align = ">" if all(isinstance(cell, int) for cell in cells[1:]) else "<"
        columns.append([f"{text:{align}{max(map(len, texts))}}" for text in texts])
    lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    print_text("\n".join(lines) + end)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
