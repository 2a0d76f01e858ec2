"""From paths that were typed to the studies below them (layer: cli, for analyze and inspect)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from gliosight.cli.output import progress_display
from gliosight.errors import GliosightError, within
from gliosight.files import remove_abandoned_temporaries
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
    title : str
        Its name for people: of several paths, with that of its own path before it.
    source : str
        Where it lies, named like the title.
    typed : str
        The path as it was typed.
    above : str
        What places in its errors are below: of several paths, the name of its own.
    flags : tuple of Flag
        Flags of unpacking an archive.
    """

    candidate: Candidate
    title: str
    source: str
    typed: str
    above: str = ""
    flags: tuple[Flag, ...] = ()

    def placed(self, error: GliosightError) -> GliosightError:
        """An error in reading it, with its place as seen from what was given."""
        return _placed(error, self.typed, self.above, self.title)


def find_below(
    paths: Iterable[Path], limits: Limits, unpacked: contextlib.ExitStack, *, shown: bool
) -> tuple[list[Located], list[Failure], list[Flag]]:
    """Every study below the paths; a path that cannot be read does not stop the others.

    Parameters
    ----------
    paths : iterable of Path
    limits : Limits
    unpacked : ExitStack
        Zips stay unpacked as long as it is open.
    shown : bool
        Whether progress is shown.

    Returns
    -------
    located : list of Located
        A DICOM study below several paths is one.
    failed : list of Failure
        The paths that lead nowhere, and why.
    flags : list of Flag
        Flags of unpacking an archive.
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
            with progress_display("reading headers", shown=shown, what="files") as tell:
                progress = None if tell is None else lambda done, all_: tell("read", done, all_)
                found = find(inside, limits, progress=progress)
        except GliosightError as error:
            failed.append(Failure(name, name, _placed(error, str(path), above, name)))
            continue
        flags += inside.flags
        if not path.exists():  # ``folder/name``: its files lie in the folder
            above = folder_name(path.parent) if above else ""
        for candidate in found:
            title, source = (
                f"{above}/{text}" if above and candidate.path != inside.path else text
                for text in (candidate.title, candidate.source)
            )
            located.append(Located(candidate, title, source, str(path), above, inside.flags))
    whole = [
        _joined(candidate, [located[index] for index in parts])
        for candidate, parts in join([study.candidate for study in located], limits)
    ]
    apart = told_apart([study.candidate for study in whole], [study.source for study in whole])
    whole = [
        replace(study, candidate=candidate) for study, candidate in zip(whole, apart, strict=True)
    ]
    return whole, failed, flags


def _joined(candidate: Candidate, parts: list[Located]) -> Located:
    """The place of a candidate; of one that was joined from several paths, that of its first part."""
    if candidate is parts[0].candidate:
        return parts[0]
    flags = tuple(dict.fromkeys(note for part in parts for note in part.flags))
    source = " and ".join(dict.fromkeys(part.source for part in parts))
    above = parts[0].above if len(parts) == 1 else ""
    title = candidate.title
    return replace(
        parts[0], candidate=candidate, title=title, source=source, above=above, flags=flags
    )


def _placed(error: GliosightError, typed: str, above: str, title: str) -> GliosightError:
    where = error.where or title
    if error.where and above and where not in (above, typed):
        where = f"{above}/{where}"
    return within(error, where)
