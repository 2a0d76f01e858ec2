"""Several data sets in one manifest (data).

In: the folders or tables of the data sets, each a *collection*, and a table of persons. Out: the rows of all
of them, with collection and person, as `Indexed`. `layouts` and `index` do each data set by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace
from pathlib import Path

from gliosight.data.index import Indexed, Tell, files_of, index
from gliosight.data.layouts import find_cases
from gliosight.data.manifest import SliceRow
from gliosight.data.people import NOBODY, People, check_collection
from gliosight.errors import DamagedInputError, UsageError, printable
from gliosight.read.recognise import folder_name

# Names shown before a list breaks off.
NAMED = 3


@dataclass(frozen=True)
class Root:
    """A data set: where it lies, and the collection it is; empty where it is the only one."""

    path: Path
    collection: str = ""


def parse_roots(given: Ordered[str]) -> tuple[Root, ...]:
    """Read ``PATH`` or ``NAME=PATH``, one for each data set.

    Of several without a NAME, the collection is named after the folder.

    Raises
    ------
    UsageError
        A name that cannot be one.
    """
    roots = []
    for text in given:
        if not text:
            raise UsageError(
                "the path is empty", remedy="give the folder of a data set, or its table"
            )
        name, separator, path = text.partition("=")
        # A path may hold the sign itself.
        if not separator or "/" in name or "\\" in name or Path(text).exists():
            folder = Path(text) if not Path(text).is_file() else Path(text).absolute().parent
            named = check_collection(folder_name(folder)) if len(given) > 1 else ""
            roots.append(Root(Path(text), named))
        elif not path:
            raise UsageError(f"no path in {printable(text)}", remedy="write NAME=PATH")
        else:
            roots.append(Root(Path(path), check_collection(name)))
    return tuple(roots)


def index_roots(
    roots: Ordered[Root],
    folder: Path,
    *,
    people: People = NOBODY,
    tumour_free: Iterable[str] = (),
    tell: Tell | None = None,
) -> Indexed:
    """Index several data sets into one manifest.

    Parameters
    ----------
    roots : sequence of Root
    folder : Path
        Where the manifest will lie.
    people : People
        Its collections go before those of the roots.
    tumour_free : iterable of str
        Collections, of roots or of the table, whose patients have no tumour and need no mask.
    tell : callable, optional

    Raises
    ------
    UsageError
        A tumour-free collection that is not there.
    DamagedInputError
        Two patients of one name; a mask that marks pixels in a tumour-free collection.
    GliosightError
        See `gliosight.data.layouts.find_cases`.
    """
    layouts = [find_cases(one.path) for one in roots]
    root_of: dict[str, Root] = {}
    for root, layout in zip(roots, layouts, strict=True):
        for case in layout.cases:
            if case.patient in root_of:
                other = root_of[case.patient]
                raise DamagedInputError(
                    f"two data sets have a patient named {printable(case.patient)}",
                    where=" and ".join(printable(one.path.name) for one in (other, root)),
                    remedy="give one of them without this patient, or rename it there; if both are one "
                    "person, say so with --people",
                )
            root_of[case.patient] = root
    collection_of = {
        name: people.collection(name) or root.collection for name, root in root_of.items()
    }
    free = _tumour_free(tumour_free, root_of, collection_of)
    total = sum(files_of(one) for one in layouts)
    rows: list[SliceRow] = []
    notes: list[str] = []
    done = 0
    for root, layout in zip(roots, layouts, strict=True):
        step = None if tell is None else lambda now, _, before=done: tell(before + now, total)
        indexed = index(layout, folder, step, tumour_free=free)
        done += files_of(layout)
        rows += [
            replace(row, collection=collection_of[row.patient], person=people.person(row.patient))
            for row in indexed.rows
        ]
        before = f"{root.collection}: " if len(roots) > 1 else ""
        notes += [before + note for note in indexed.notes]
    if absent := sorted(people.entries.keys() - root_of.keys()):
        notes.append(
            f"Patients of --people that are not there: {len(absent):,}, such as {absent[0]}."
        )
    return Indexed(tuple(rows), tuple(notes))


def _tumour_free(
    wanted: Iterable[str], root_of: dict[str, Root], collection_of: dict[str, str]
) -> frozenset[str]:
    """The patients of the tumour-free collections."""
    patients: dict[str, set[str]] = defaultdict(set)
    for name, root in root_of.items():
        for collection in {root.collection, collection_of[name]} - {""}:
            patients[collection].add(name)
    free: set[str] = set()
    for name in wanted:
        if name not in patients:
            known = f"choose one of {', '.join(sorted(patients))}" if patients else ""
            raise UsageError(
                f"no collection {printable(name)!r} for --tumour-free",
                remedy=known or "name the data set: NAME=PATH",
            )
        free |= patients[name]
    return frozenset(free)
