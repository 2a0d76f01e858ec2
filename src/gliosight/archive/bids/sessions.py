"""The sessions of a BIDS data set, and which of their files are used (layer: archive)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gliosight.archive.bids.filters import ALL_FILES, OPTION, Filter
from gliosight.archive.run import Study
from gliosight.errors import (
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
    printable,
    within,
)
from gliosight.files import absolute, folded, numbered
from gliosight.pipeline import Job, Outcome
from gliosight.read import Candidate, Options, find
from gliosight.read.candidates import NiftiCandidate
from gliosight.read.folders import files_ignored, listed
from gliosight.read.limits import cannot_read
from gliosight.read.naming import natural_key
from gliosight.study import MrSequence
from gliosight.study import Study as Images

# Entities of raw images; the others say what an image was made into.
RAW_ENTITIES = ("sub", "ses", "acq", "ce", "rec", "run", "echo", "part", "chunk")
BIDS_NAME = re.compile(r"(sub-[a-zA-Z0-9+]+(?:_[a-z]+-[a-zA-Z0-9+]+)*)_[a-zA-Z0-9]+\.nii(?:\.gz)?")
# Labels named in a message before it breaks off.
NAMED = 6


@dataclass(frozen=True)
class Session:
    """A study of a session, or why there is none.

    Parameters
    ----------
    name : str
        ``sub-001_ses-1``; where a session has several studies, with more entities of its FLAIR.
    folder : str
        ``sub-001/ses-1``, in both data sets.
    study : Study or None
    images : mapping
        File names of the study's sequences in ``anat``.
    error : GliosightError or None
        Why there is no study.
    left_out : tuple of str
        Images in ``anat`` that the filter leaves out.
    """

    name: str
    folder: str
    study: Study | None = None
    images: Mapping[MrSequence, str] = field(default_factory=dict)
    error: GliosightError | None = None
    left_out: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Of a session without a study: what there is to say."""
        errors = () if self.error is None else (self.error,)
        return Outcome(self.name, f"{self.folder}/anat", errors=errors)


def session_folders(
    root: Path,
    participants: Collection[str],
    visits: Collection[str],
    chosen_files: Filter = ALL_FILES,
) -> list[str]:
    """The folders ``sub-*/[ses-*]`` of a data set, relative to it.

    Parameters
    ----------
    root : Path
    participants, visits : collection of str
        Labels of those wanted, with or without ``sub-`` and ``ses-``; empty for all.
    chosen_files : Filter
        Its ``subject`` and ``session`` of FLAIR choose sessions, too.

    Raises
    ------
    UsageError
        The data set does not have one of the labels, or the filter chooses no session.
    NothingReadableError
        There are no folders ``sub-*``.
    """
    subjects = _labelled(root, "sub")
    if not subjects:
        remedy = "give the folder of a BIDS data set"
        raise NothingReadableError("no folders sub-* there", where=str(root), remedy=remedy)
    subjects = _wanted(subjects, participants, "sub", "participant")
    inside = {subject: _labelled(root / subject, "ses") for subject in subjects}
    known = sorted({visit for own in inside.values() for visit in own}, key=natural_key)
    chosen = set(_wanted(known, visits, "ses", "session"))
    folders: list[str] = []
    for subject, own in inside.items():
        if not visits and (not own or (root / subject / "anat").is_dir()):
            folders.append(subject)
        folders += [f"{subject}/{visit}" for visit in own if visit in chosen]
    selected = [folder for folder in folders if chosen_files.selects(folder)]
    if folders and not selected:
        what = f"subject and session of flair choose none of {len(folders)} sessions"
        raise UsageError(what, where=OPTION, remedy="change them, or leave them out")
    return selected


def find_sessions(
    root: Path, folder: str, options: Options, chosen_files: Filter = ALL_FILES
) -> Iterator[Session]:
    """The studies in one of the `session_folders`, or why there is none."""
    name = folder.replace("/", "_")
    taken: set[str] = set()
    left_out: tuple[str, ...] = ()
    try:
        anat = root / folder / "anat"
        if not anat.is_dir():
            raise NothingReadableError("no folder anat", remedy="FLAIR is looked for there")
        left_out = _left_out(anat, folder, chosen_files)
        candidates = find(anat, options.limits, without=left_out)
    except GliosightError as error:
        yield Session(name, folder, error=_placed(error, folder), left_out=left_out)
        return
    not_read = files_ignored(f"Files that {OPTION} leaves out", listed([*left_out]))
    for found in candidates:
        candidate = replace(found, flags=(*found.flags, *not_read))
        own, session = name, Session(name, folder, left_out=left_out)
        try:
            images = _images(candidate)
            if len(candidates) > 1:
                own = entities_of(images[MrSequence.FLAIR], name)
            own = numbered(own, taken)
            source = f"{folder}/{candidate.source}"
            job = Job(own, source, own, partial(_read, candidate, folder, own, source, options))
            place = absolute(candidate.path)
            session = replace(session, study=Study(job, candidate.paths, place), images=images)
        except GliosightError as error:
            own = numbered(own, taken)
            session = replace(session, error=_placed(error, folder))
        taken.add(folded(own))
        yield replace(session, name=own)


def _left_out(anat: Path, folder: str, chosen_files: Filter) -> tuple[str, ...]:
    """The images of a session that the filter leaves out."""
    if not chosen_files.queries:
        return ()
    try:
        names = sorted((path.name for path in anat.iterdir()), key=natural_key)
    except OSError as error:
        raise cannot_read(error, "anat") from error
    return chosen_files.left_out(folder, names)


def _images(candidate: Candidate) -> dict[MrSequence, str]:
    """The file names of a study by sequence; raises a `GliosightError` where it cannot be analysed."""
    if candidate.error is not None:
        raise candidate.error
    if not isinstance(candidate, NiftiCandidate):
        remedy = "convert it to NIfTI, or analyse it with gliosight batch"
        raise UnsupportedInputError(f"{candidate.kind}, but BIDS has NIfTI", remedy=remedy)
    files, _, _ = candidate.assign()
    return {sequence: file.path.name for sequence, file in files.items()}


def _read(candidate: Candidate, folder: str, name: str, source: str, options: Options) -> Images:
    try:
        study = candidate.read(options)
    except GliosightError as error:
        raise _placed(error, folder) from error
    return replace(study, study_id=name, source=replace(study.source, path=source))


def _placed(error: GliosightError, folder: str) -> GliosightError:
    """The error with its place below the data set; a filter names a file here."""
    where = error.where or "anat"
    where = where if where.split("/")[0] == "anat" else f"anat/{where}"
    remedy = (error.remedy or "").replace("choose one with --flair", f"choose one with {OPTION}")
    return within(type(error)(error.what, remedy=remedy or None), f"{folder}/{where}")


def entities_of(image: str, session: str) -> str:
    """The entities in the name of a raw image; those of its session where it is not named so."""
    match = BIDS_NAME.fullmatch(image)
    if match is None or not f"{match[1]}_".startswith(f"{session}_"):
        return session
    return "_".join(pair for pair in match[1].split("_") if pair.split("-")[0] in RAW_ENTITIES)


def _labelled(folder: Path, key: str) -> list[str]:
    """The names of the subfolders ``<key>-<label>``."""
    pattern = re.compile(rf"{key}-[a-zA-Z0-9+]+")
    try:
        names = [path.name for path in folder.iterdir() if pattern.fullmatch(path.name)]
        return sorted((name for name in names if (folder / name).is_dir()), key=natural_key)
    except OSError as error:
        raise cannot_read(error, str(folder)) from error


def _wanted(names: list[str], labels: Collection[str], key: str, what: str) -> list[str]:
    """Those of the labels, with or without their key; all where none is given."""
    wanted = [f"{key}-{label.removeprefix(f'{key}-')}" for label in labels]
    for name in wanted:
        if name not in names:
            there = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
            remedy = f"choose from {there}" if names else "leave it out: there are no sessions"
            option = f"--{what}-label"
            raise UsageError(f"no {what} {printable(name)}", where=option, remedy=remedy)
    return [name for name in names if name in wanted or not wanted]
