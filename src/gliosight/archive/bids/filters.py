"""The file of ``--bids-filter-file``: which images of a session are used, by their names (layer: archive).

Its form is that of fMRIPrep, with PyBIDS' names of entities::

    {"flair": {"acquisition": "3d"}, "t1w": {"ceagent": null, "run": [1, 2]}}

``null`` stands for a name without the entity, ``"*"`` for any value, a list for one of several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gliosight.errors import UnsupportedInputError, UsageError
from gliosight.read.folders import listed
from gliosight.read.limits import cannot_read
from gliosight.read.naming import is_mask, promises_image, sequence_of, stem
from gliosight.study import MrSequence

OPTION = "--bids-filter-file"
KEYS = {
    "flair": MrSequence.FLAIR,
    "t1w": MrSequence.T1,
    "t1ce": MrSequence.T1C,
    "t1c": MrSequence.T1C,
}
# Keys of fMRIPrep, QSIPrep and ASLPrep for images that are not used here: a file may serve several programs.
KEYS_OF_OTHERS = ("asl", "bold", "dwi", "fmap", "roi", "sbref", "t2w")
# PyBIDS' names (its bids.json), and what stands in the names of files.
ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "sample": "sample",
    "task": "task",
    "tracksys": "tracksys",
    "acquisition": "acq",
    "nucleus": "nuc",
    "volume": "voi",
    "ceagent": "ce",
    "tracer": "trc",
    "staining": "stain",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "modality": "mod",
    "echo": "echo",
    "flip": "flip",
    "inv": "inv",
    "mt": "mt",
    "part": "part",
    "proc": "proc",
    "space": "space",
    "recording": "recording",
    "chunk": "chunk",
}
OF_THE_FILE = ("suffix", "datatype", "extension")
NUMBERS = ("run", "echo", "flip", "inv", "chunk")
ANY = "*"

# The values that an entity may have, None for a name without it.
Query = Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True)
class Filter:
    """What a filter file says; without one, all images are used.

    Parameters
    ----------
    queries : mapping
        For a sequence the values that entities in the names of its images may have.
    """

    queries: Mapping[MrSequence, Query] = field(default_factory=dict)

    def selects(self, folder: str) -> bool:
        """Whether a session is analysed, by ``subject`` and ``session`` of FLAIR; ``sub-1/ses-2``."""
        query = self.queries.get(MrSequence.FLAIR, {})
        entities = _entities(f"{folder}/")
        return all(
            _fits(entities.get(name), query[name])
            for name in ("subject", "session")
            if name in query
        )

    def left_out(self, folder: str, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the files in a session's ``anat`` that are images and are not used.

        Raises
        ------
        UnsupportedInputError
            No FLAIR is left.
        """
        left_out, flairs, flair_is_left = list[str](), list[str](), False
        for name in names:
            if not promises_image(name) or is_mask(name):
                continue
            entities, sequence = _entities(f"{folder}/anat/{name}"), sequence_of(name)
            query = self.queries.get(sequence, {}) if isinstance(sequence, MrSequence) else {}
            used = all(_fits(entities.get(entity), wanted) for entity, wanted in query.items())
            if not used:
                left_out.append(name)
            if sequence is MrSequence.FLAIR:
                flairs.append(name)
                flair_is_left |= used
        if flairs and not flair_is_left:
            what = f"{OPTION} leaves out every FLAIR: {listed(flairs)}"
            raise UnsupportedInputError(what, remedy="change the key flair in the filter file")
        return tuple(left_out)

    def lines(self) -> Iterator[str]:
        """What is asked of each sequence, in words: ``FLAIR: acquisition 3d, run absent or 1``."""
        for sequence, query in self.queries.items():
            asked = [
                f"{entity} {' or '.join(map(_value_words, values))}"
                for entity, values in query.items()
            ]
            yield f"{sequence.value}: {', '.join(asked)}"


ALL_FILES = Filter()


def read_filter(path: Path) -> Filter:
    """Read a filter file.

    Raises
    ------
    NothingReadableError
        There is no such file.
    UsageError
        It is not a filter: not JSON, or with an unknown key, entity or value.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise cannot_read(error, str(path)) from error
    form = 'write it as {"flair": {"acquisition": "3d"}}'
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}", where=path.name, remedy=form) from error
    if not isinstance(content, dict) or not all(isinstance(one, dict) for one in content.values()):
        raise UsageError("not an object of objects", where=path.name, remedy=form)
    queries: dict[MrSequence, Query] = {}
    for key, query in content.items():
        if key in KEYS_OF_OTHERS:
            continue
        if key not in KEYS:
            remedy = f"choose from {', '.join(KEYS)}"
            raise UsageError(f"unknown key {key}", where=path.name, remedy=remedy)
        if KEYS[key] in queries:
            raise UsageError(
                "t1ce and t1c are the same", where=path.name, remedy="give one of them"
            )
        queries[KEYS[key]] = {
            entity: _values(key, entity, value, path.name) for entity, value in query.items()
        }
    return Filter(queries)


def _values(key: str, entity: str, value: Any, where: str) -> tuple[str | None, ...]:
    """The values of an entity in a filter file, checked."""
    if entity not in ENTITIES and entity not in OF_THE_FILE:
        long = next((name for name, short in ENTITIES.items() if short == entity), None)
        remedy = f"write {long}" if long else f"choose from {', '.join([*ENTITIES, *OF_THE_FILE])}"
        raise UsageError(f"unknown entity {entity} in {key}", where=where, remedy=remedy)
    values = value if isinstance(value, list) else [value]
    if not values:
        what = f"{entity} in {key} is an empty list, which no image fits"
        raise UsageError(what, where=where, remedy="give a value, or leave it out")
    for one in values:
        if one is None or one == ANY or (entity == "extension" and isinstance(one, str)):
            continue
        label = isinstance(one, str | int) and not isinstance(one, bool)
        if not label or not re.fullmatch(r"[a-zA-Z0-9+]+", str(one)):
            what = f"{entity} in {key} cannot be {json.dumps(one)}"
            remedy = 'give a label such as "3d", null, "*", or a list of these'
            raise UsageError(what, where=where, remedy=remedy)
    return tuple(one if one is None else _normal(entity, str(one)) for one in values)


def _normal(entity: str, value: str) -> str:
    """A value as it is compared: ``run-01`` is run 1, and ``nii.gz`` an extension, too."""
    if entity == "extension" and value != ANY:
        return f".{value.removeprefix('.')}"
    return str(int(value)) if entity in NUMBERS and value.isdecimal() else value


def _entities(path: str) -> dict[str, str]:
    """Entities of a file by PyBIDS' names; its path starts at the data set."""
    labels = dict(re.findall(r"(?:^|[_/])([a-z]+)-([a-zA-Z0-9+]+)(?=[_/.])", path))
    entities = {name: _normal(name, labels[key]) for name, key in ENTITIES.items() if key in labels}
    folder, _, name = path.rpartition("/")
    whole = stem(name)
    return entities | {
        "suffix": whole.rpartition("_")[2],
        "datatype": folder.rpartition("/")[2],
        "extension": name[len(whole) :],
    }


def _fits(value: str | None, wanted: tuple[str | None, ...]) -> bool:
    return value in wanted or (value is not None and ANY in wanted)


def _value_words(value: str | None) -> str:
    return "absent" if value is None else "any" if value == ANY else value
