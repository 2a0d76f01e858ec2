"""From paths that were typed to the studies below them (layer: cli; apart, for analyze and inspect)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from gliosight.cli.output import progress_display
from gliosight.errors import GliosightError, within
from gliosight.files import absolute, remove_abandoned_temporaries
from gliosight.read import Candidate, Limits, find, join, opened
from gliosight.read.candidates import told_apart
from gliosight.read.detect import folder_name
from gliosight.study import Flag


class Failure(NamedTuple):
    """A path or study that could not be read: its name for people, where it lies, and why."""

    title: str
    source: str
    error: GliosightError


@dataclass(frozen=True)
class Located:
    """A candidate, and where it was found.

    Parameters
    ----------
    candidate : Candidate
    title, source : str
        Its name for people, and where it lies: of several paths, with the name of its own before it.
    typed : str
        The path as it was typed.
    above : str
        What places in its errors are below: of several paths, the name of its own.
    flags : tuple of Flag
        Flags of unpacking an archive.
    place : Path
        Where it lies, absolute; of a study in a zip the zip's path with the one inside.
    """

    candidate: Candidate
    title: str
    source: str
    typed: str
    above: str = ""
    flags: tuple[Flag, ...] = ()
    place: Path = Path()

    def placed(self, error: GliosightError) -> GliosightError:
        """An error in reading it, with its place as seen from what was given."""
        return _placed(error, self.typed, self.above, self.title)


def find_below(
    paths: Iterable[Path], limits: Limits, unpacked: contextlib.ExitStack, *, shown: bool
) -> tuple[list[Located], list[Failure], list[Flag]]:
    """Every study below the paths; a path that cannot be read does not stop the others.

    Zips stay unpacked as long as ``unpacked`` is open; ``shown`` says whether progress is. The result are
    the studies (a DICOM study below several paths is one), the paths that lead nowhere, and the flags of
    unpacking.
    """
    remove_abandoned_temporaries()
    typed = list(paths)
    located: list[Located] = []
    failed: list[Failure] = []
    flags: list[Flag] = []
    for path in typed:
        name = folder_name(path)
        above = name if len(typed) > 1 else ""
        try:
            inside = unpacked.enter_context(opened(path, limits))
            with progress_display("reading headers", shown=shown, what="files") as progress:
                candidates = find(inside, limits, progress=progress)
        except GliosightError as error:
            failed.append(Failure(name, name, _placed(error, str(path), above, name)))
            continue
        flags += inside.flags
        if above and not path.exists():  # ``folder/name``: its files lie in the folder
            above = folder_name(path.parent)
        for candidate in candidates:
            before = f"{above}/" if above and candidate.path != inside.path else ""
            title, source = before + candidate.title, before + candidate.source
            place = absolute(candidate.path)
            if inside.archive is not None:
                within_zip = os.path.relpath(candidate.path, inside.path)
                place = absolute(inside.archive) / within_zip
            located.append(Located(candidate, title, source, str(path), above, inside.flags, place))
    whole = [
        _joined(candidate, [located[index] for index in parts])
        for candidate, parts in join([study.candidate for study in located], limits)
    ]
    apart = told_apart([study.candidate for study in whole], [study.source for study in whole])
    pairs = zip(whole, apart, strict=True)
    return [replace(study, candidate=candidate) for study, candidate in pairs], failed, flags


def _joined(candidate: Candidate, parts: list[Located]) -> Located:
    """The place of a candidate; of one that was joined from several paths, that of its first part."""
    if candidate is parts[0].candidate:
        return parts[0]
    return replace(
        parts[0],
        candidate=candidate,
        title=candidate.title,
        source=" and ".join(dict.fromkeys(part.source for part in parts)),
        above=parts[0].above if len(parts) == 1 else "",
        flags=tuple(dict.fromkeys(note for part in parts for note in part.flags)),
    )


def _placed(error: GliosightError, typed: str, above: str, title: str) -> GliosightError:
    where = error.where or title
    if where.startswith("series "):  # DICOM: it lies in no folder
        return error
    return within(error, f"{above}/{where}" if above and where not in ("", above, typed) else where)
