"""The derivatives of a BIDS data set (layer: archive).

`run_archive` analyses the sessions into a work folder. What the specification has a name
for is copied from there (BIDS 1.11.1, "Derivatives: imaging data types"). ``logs/`` has a record of each
session, failed ones included; the group level is made of these records.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

import gliosight
from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Status
from gliosight.archive.bids.sessions import Session, entities_of
from gliosight.archive.entries import FAILED, Entry, entry_of, ranked
from gliosight.archive.page import render_page
from gliosight.archive.run import PAGE, Plan, Study, Tally, run_archive
from gliosight.errors import (
    CannotWriteError,
    InUseError,
    NothingReadableError,
    printable,
    within,
)
from gliosight.files import whole_file, writing
from gliosight.pipeline import Outcome
from gliosight.read.naming import natural_key
from gliosight.study import MrSequence
from gliosight.write.result_folder import RESULT_FILE, refuse_single

BIDS_VERSION = "1.11.1"
DESCRIPTION, LOGS, WORK = "dataset_description.json", "logs", ".gliosight"
SESSIONS, PARTICIPANTS = "group_sessions", "participants"
# What has no name in the specification, for the validator.
IGNORED = f"{WORK}/\n{LOGS}/\n{SESSIONS}.*\n*.html\n"
README = f"""\
# Outlines of the FLAIR abnormality, made by gliosight

**{RESEARCH_USE}** {MASK_MEANING} {LIMITS}

- `sub-*/[ses-*/]anat/*_mask.nii.gz`: 1 inside, on FLAIR's grid. The JSON file beside it has the verdict, the
  probability, the volume with its 90 % interval, and the model.
- `sub-*.html`: the reports.
- `{PAGE}`, `{SESSIONS}.tsv`, `{PARTICIPANTS}.tsv`: all sessions.
- `{LOGS}/`: a record of each session, failed ones included.
"""


def analyse_sessions(
    sessions: Sequence[Session],
    root: Path,
    out: Path,
    work: Path,
    plan: Plan,
    tell: Callable[[Tally], object],
) -> list[Entry]:
    """Analyse those of the sessions that are not done yet, and write the derivatives of all.

    Returns
    -------
    list of Entry
        One for each session; its folder is the report, relative to ``out``.

    Raises
    ------
    CannotWriteError
        Another data set is there, or the derivatives cannot be written; see also `run_archive`.
    ModelError
    """
    prepare_out(root, out)
    by_study = {session.study: session for session in sessions if session.study is not None}
    lost = [session.outcome for session in sessions if session.error is not None]

    def publish(study: Study, entry: Entry, _: Outcome) -> None:
        _publish(by_study[study], entry, work, out)

    entries = run_archive(list(by_study), lost, work, plan, tell, finished=publish)
    # Once more with their ranks, and those of earlier runs.
    known = dict(zip(by_study, entries[: len(by_study)], strict=True))
    return [
        _publish(
            session,
            known[session.study] if session.study else entry_of(session.outcome, work),
            work,
            out,
        )
        for session in sessions
    ]


def prepare_out(root: Path, out: Path) -> None:
    """Write what describes the derivatives.

    Raises
    ------
    CannotWriteError
        Another data set is there, or the result of a single study.
    """
    path, remedy = out / DESCRIPTION, "choose another OUT, such as BIDS_DIR/derivatives/gliosight"
    if out.resolve() == root.resolve():
        raise CannotWriteError("OUT is BIDS_DIR itself", where=out.name, remedy=remedy)
    refuse_single(out, remedy)
    if path.exists():
        makers = _read_json(path).get("GeneratedBy")
        if not isinstance(makers, list) or "gliosight" not in [one.get("Name") for one in makers]:
            what = "there is a data set that gliosight did not write"
            raise CannotWriteError(what, where=f"{out.name}/{DESCRIPTION}", remedy=remedy)
    _write(path, _as_json(_description(root, out)))
    _write(out / "README.md", README)
    if not (out / ".bidsignore").exists():
        _write(out / ".bidsignore", IGNORED)


def summarise(root: Path, out: Path, folders: Sequence[str]) -> list[Entry]:
    """Write ``index.html`` and the tables of the group level; nothing is analysed.

    ``folders`` are those of the sessions, see `gliosight.archive.bids.sessions.session_folders`.

    Returns
    -------
    list of Entry
        Those of the sessions, ranked; a session that was not analysed yet has an error.

    Raises
    ------
    NothingReadableError
        No session was analysed.
    CannotWriteError
    """
    records: dict[str, list[Entry]] = {folder: [] for folder in folders}
    for path in sorted((out / LOGS).glob("sub-*.json"), key=lambda path: natural_key(path.name)):
        record = _read_json(path)
        if record.get("folder") in records and _is_whole(record, out):
            values = record["entry"]
            values["warnings"] = tuple(values["warnings"])
            if "thumbnail" in values:
                values["thumbnail"] = b64decode(values["thumbnail"])
            records[record["folder"]].append(Entry(**values))
    if not any(records.values()):
        remedy = "run the level participant first"
        raise NothingReadableError("no session was analysed there", where=str(out), remedy=remedy)
    prepare_out(root, out)
    error = NothingReadableError("not analysed yet", remedy="run the level participant")
    missing = {
        folder: entry_of(
            Session(folder.replace("/", "_"), folder, error=within(error, folder)).outcome, out
        )
        for folder in records
    }
    pairs = [
        (folder, entry) for folder, own in records.items() for entry in own or [missing[folder]]
    ]
    entries = ranked(entry for _, entry in pairs)
    _write_tables([folder for folder, _ in pairs], entries, out)
    _write(out / PAGE, render_page(entries, title=_name_of(root)))
    return entries


def _publish(session: Session, entry: Entry, work: Path, out: Path) -> Entry:
    """Write the derivatives of a session under their BIDS names, and its record."""
    path = out / LOGS / f"{session.name}.json"
    before, digest = _read_json(path), ""
    files: list[str] = []
    if entry.folder is not None:
        folder, report = work / entry.folder, f"{session.name}.html"
        content = (folder / RESULT_FILE).read_bytes()
        # Names of images go into the derivatives' names and JSON files.
        images = {sequence.value: name for sequence, name in session.images.items()}
        digest = hashlib.sha256(content + _as_json(images).encode()).hexdigest()
        entry = replace(entry, folder=report)
        if before.get("result") == digest and _is_whole(before, out):
            return entry
        result = json.loads(content)
        names = _derivatives(session, result)
        for name, target in names.items():
            with _whole(out / target) as new:
                shutil.copyfile(folder / name, new)
            sidecar = target.replace(".nii.gz", ".json")
            _write(out / sidecar, _as_json(_sidecar(session, result, target)))
            files += [target, sidecar]
        page = (folder / "report.html").read_text("utf-8")
        _write(out / report, _relinked(page, {name: names.get(name) for name in result["files"]}))
        files.append(report)
    for name in set(_files_of(before)) - set(files):  # of an earlier result
        with writing(out / name):
            (out / name).unlink(missing_ok=True)
    values = {key: value for key, value in asdict(entry).items() if value not in (None, math.inf)}
    if entry.thumbnail is not None:
        values["thumbnail"] = b64encode(entry.thumbnail).decode("ascii")
    record = {"research_use_only": RESEARCH_USE, "folder": session.folder, "result": digest}
    _write(path, _as_json({**record, "files": files, "entry": values}))
    return entry


def _derivatives(session: Session, result: Mapping[str, Any]) -> dict[str, str]:
    """The files of a result folder that have a BIDS name, and that name below the derivatives."""
    entities = entities_of(session.images[MrSequence.FLAIR], session.folder.replace("/", "_"))
    stem = f"{session.folder}/anat/{entities}_space-orig_label-tumor"
    named = {"mask.nii.gz": "mask", "probability.nii.gz": "probseg"}
    return {
        name: f"{stem}_{suffix}.nii.gz" for name, suffix in named.items() if name in result["files"]
    }


def _sidecar(session: Session, result: Mapping[str, Any], target: str) -> dict[str, Any]:
    """The JSON file beside a mask or a probability map."""
    raw, made_by = f"bids:raw:{session.folder}/anat/", result["provenance"]
    is_mask = target.endswith("_mask.nii.gz")
    what = MASK_MEANING if is_mask else "Probability of tumour of each voxel."
    return {
        "Description": f"{what} {RESEARCH_USE}",
        **({"Type": "Lesion"} if is_mask else {}),
        "Manual": False,
        "Sources": [
            raw + name
            for sequence, name in session.images.items()
            if sequence.value in made_by["channels"]
        ],
        "SpatialReference": raw + session.images[MrSequence.FLAIR],
        "ResearchUseOnly": RESEARCH_USE,
        "Verdict": result["status"],
        "VerdictReason": result["reason"],
        "Probability": result["detection"]["probability"],
        "Prevalence": result["detection"]["prevalence"],
        "Findings": len(result["findings"]),
        "VolumeMl": result["volume_ml"],
        "VolumeInterval90Ml": [result["volume_low_ml"], result["volume_high_ml"]],
        "Flags": [flag["code"] for flag in result["flags"]],
        "Model": made_by["model"]["name"],
        "ModelSHA256": made_by["model"]["sha256"],
        "Engine": made_by["engine"],
        "Precision": made_by["precision"],
        "GliosightVersion": made_by["version"],
    }


def _relinked(page: str, files: Mapping[str, str | None]) -> str:
    """A report that links to the derivatives, and no longer to what only its result folder has."""
    for name, target in files.items():
        link = f'<a href="./{name}"><bdi>{name}</bdi></a>'
        if target is not None:
            page = page.replace(link, f'<a href="./{target}"><bdi>{target}</bdi></a>')
        page = re.sub(rf"<li>{re.escape(link)}.*</li>\n", "", page)
    return page


def _name_of(root: Path) -> str:
    """The name of a data set."""
    return str(_read_json(root / DESCRIPTION).get("Name") or root.resolve().name)


def _description(root: Path, out: Path) -> dict[str, Any]:
    """What ``dataset_description.json`` says."""
    about = f"Finds and outlines lower-grade glioma in brain MRI. {RESEARCH_USE}"
    try:
        link = Path(os.path.relpath(root.resolve(), out.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        link = root.resolve().as_uri()
    source = {"URL": link}
    if doi := _read_json(root / DESCRIPTION).get("DatasetDOI"):
        source["DOI"] = str(doi)
    return {
        "Name": f"Outlines of the FLAIR abnormality in: {_name_of(root)}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {"Name": "gliosight", "Version": gliosight.__version__, "Description": about}
        ],
        "SourceDatasets": [source],
        "DatasetLinks": {"raw": link},
    }


def _write_tables(folders: Sequence[str], entries: Sequence[Entry], out: Path) -> None:
    """Write the table of all sessions and that of the participants, each with its JSON file."""
    rows: list[dict[str, Any]] = []
    verdicts: dict[str, Counter[str]] = {}
    for folder, entry in zip(folders, entries, strict=True):
        subject, _, visit = folder.partition("/")
        verdicts.setdefault(subject, Counter()).update([entry.status])
        row = {"participant_id": subject, "session_id": visit, "name": entry.study_id}
        values = asdict(replace(entry, thumbnail=None))
        known = entry.status not in (FAILED, Status.NOT_ASSESSED.value)
        values |= {"warnings": " ".join(entry.warnings), "report": entry.folder}
        values |= {} if known else {"findings": None}
        rows.append(row | {name: values[name] for name in COLUMNS if name not in row})
    _write_table(out / SESSIONS, "The sessions of the data set.", COLUMNS, rows)
    names = {status: status.replace(" ", "_") for status in VERDICTS}
    columns = {"participant_id": COLUMNS["participant_id"]} | {
        names[status]: {"Description": f"Number of sessions with this verdict: {meaning}"}
        for status, meaning in VERDICTS.items()
    }
    rows = [
        {"participant_id": subject} | {name: counts[status] for status, name in names.items()}
        for subject, counts in verdicts.items()
    ]
    _write_table(out / PARTICIPANTS, "Verdicts of each participant's sessions.", columns, rows)


VERDICTS = {
    Status.FOUND.value: "the model finds tumour",
    Status.UNCERTAIN.value: "in doubt, and the mask holds candidates",
    Status.NOT_FOUND.value: "the model finds no tumour",
    Status.NOT_ASSESSED.value: "the model cannot assess the images, and the mask is empty",
    FAILED: "not analysed yet, or it failed",
}
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "participant_id": {"Description": "Participant"},
    "session_id": {"Description": "Session"},
    "name": {"Description": "Name of the session's report and record"},
    "status": {"Description": "Verdict", "Levels": VERDICTS},
    "probability": {"Description": "Probability that the session shows tumour"},
    "volume_ml": {"Description": f"Volume of the mask. {MASK_MEANING}", "Units": "mL"},
    "volume_low_ml": {"Description": "Lower end of the volume's 90 % interval", "Units": "mL"},
    "volume_high_ml": {"Description": "Upper end of the volume's 90 % interval", "Units": "mL"},
    "volume_px": {"Description": "Volume of the mask in voxels"},
    "findings": {"Description": "Connected lesions; of an uncertain session its candidates"},
    "review": {"Description": "Rank in which to look at the sessions, 1 first"},
    "warnings": {"Description": "Codes of the warnings"},
    "report": {"Description": "File of the report"},
    "error": {"Description": "Why the session was not analysed"},
}


def _write_table(
    stem: Path,
    about: str,
    columns: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write a TSV file, and the JSON file that explains its columns."""
    lines = ["\t".join(columns), *("\t".join(_cell(row[name]) for name in columns) for row in rows)]
    _write(stem.with_name(f"{stem.name}.tsv"), "\n".join(lines) + "\n")
    _write(
        stem.with_name(f"{stem.name}.json"),
        _as_json({"Description": f"{about} {RESEARCH_USE}", **columns}),
    )


def _cell(value: Any) -> str:
    return "n/a" if value in (None, "") else printable(str(value))


def _is_whole(record: Mapping[str, Any], out: Path) -> bool:
    """Whether all files of a record are there."""
    return "entry" in record and all((out / name).is_file() for name in _files_of(record))


def _files_of(record: Mapping[str, Any]) -> list[str]:
    """The files that a record names; never one outside the derivatives."""
    paths = map(PurePosixPath, record.get("files", ()))
    return [str(path) for path in paths if str(path).startswith("sub-") and ".." not in path.parts]


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text("utf-8"))
        return value if isinstance(value, dict) else {}
    return {}


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file, unless it says so already."""
    content = text.encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return
    # Another process that writes it now, writes the same.
    with contextlib.suppress(InUseError), _whole(path) as new:
        new.write_bytes(content)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, overwrite=True) as new:
        yield new
