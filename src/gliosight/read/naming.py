"""What names say: sequence, mask, patient, slice number; and which files are of one study (read stage).

A name is a hint for what the bytes cannot tell. It is split into *tokens* at everything but letters, digits
and ``+``, and a token into *words* where small letters meet capitals (``axT2FLAIR``). BIDS *entities* are
tokens of a key and a value (``acq-3D``); of the sequence only ``ce-`` says something. The *identity* of a
name is what is left without sequence, contrast, plane, processing and entities: patient, dates, numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise, takewhile
from string import ascii_lowercase

from gliosight.read.dicom.words import HINTS, contrast_hint, without_minus
from gliosight.study import MrSequence

# A file with one of these is mislabelled when its bytes differ.
PROMISING = (".nii.gz", ".nii", ".tiff", ".tif", ".btf", ".tf8", ".png", ".jpeg", ".jpg")
SUFFIXES = (*PROMISING, ".hdr.gz", ".img.gz", ".hdr", ".img", ".dcm", ".gz")

# "T1+C" is T1 and +C; "C+" keeps its sign.
_TOKEN = re.compile(r"\+?[^\W_]+(?:\+(?![^\W_]))?")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z]{2})(?=[A-Z])")

# BIDS 1.10, appendix "Entities", without those that make a mask (label, seg).
_ENTITY = re.compile(
    r"(?:^|(?<=[_. ]))(?P<key>sub|ses|sample|task|tracksys|acq|ce|nuc|voi|trc|stain|rec|dir|run|mod|echo"
    r"|flip|inv|mt|part|proc|hemi|space|split|recording|chunk|res|den|desc|cohort|from|to|mode)"
    r"-(?P<value>[A-Za-z0-9+]+)(?![A-Za-z0-9+])",
    re.IGNORECASE,
)
# "T1_to_FLAIR" is a T1; what follows says only on which grid it was put.
_TARGET = re.compile(
    r"[_\-. ](to|in|onto|on)[_\-. ].*$|(?<=t1|ir|t2|1c|ce|gd)(to|2)(?=t1|t2|flair|mni|std|template).*$"
    r"|[_\-. ](t1|t2|flair|mni)\w*[_\-. ]?space(?![a-z]).*$",
    re.IGNORECASE | re.DOTALL,
)
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_. ]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:[-_. T]?(?:[01]\d|2[0-3])[-_.]?[0-5]\d(?:[-_.]?[0-5]\d)?)?(?!\d)"
)
_TREATED = re.compile(
    r"(pre|post)[_\-. ]?(op|surg|surgery|rt|radio|rad|chemo|tx|treat|treatment)(?![a-z])", re.I
)
# Words that count people, visits or times, and the number behind them.
_PERSON = re.compile(
    r"(?<![a-z])(subject|subj|sub|patient|pat|pt|case|id|session|sess|ses|visit|timepoint|tp|week|month|year"
    r"|day|scan_?id|volunteer|control)[_\-. ]?(\d+)(?!\d)",
    re.IGNORECASE,
)
# dcm2niix (FILENAMING.md): echo, coil, trigger time, image number, letters against clashes.
_POSTFIX = re.compile(
    r"[_\-](?:e\d{1,2}|c[H\d]\w{0,3}|t\d{2,}|i\d+|Eq(?:_\d+)?|Tilt(?:_\d+)?|MoCo|Crop(?:_\d+)?)[a-z]?$",
    re.IGNORECASE,
)

# ISLES and BraTS until 2013: "VSD.Brain.XX.O.MR_Flair.54193"; OT is the truth.
_VSD = re.compile(r"^VSD\.Brain\w*\.XX\.\w+\.(.*?)\.\d+$")
# SPM writes what it does in front: realigned, modulated, warped, smoothed.
_SPM = re.compile(r"\bs?[rmw]{1,2}(t1|t2|flair)")
_T1_MORE = re.compile(r"\b(?:s?[rmw]{1,2}|gd|gad|ce|km|pre|post|ir)t1(?!\d)|\bct1\b")
_T1C_MORE = re.compile(
    r"\bct1\b|t1w?i?\w*(gd|gad\w*|contrast|enh|kontrast|ks)\b|\bt1w?i?c\+?|\bplus c\b"
)
# What is computed from an image is not used as one; as a first word, a short word is a patient's code.
_COMPUTED = re.compile(
    r"(?<!^)\b(?P<map>maps?)\b|(?<!^)\b(?P<projection>mi?n?ip)\b"
    r"|(?P<subtraction>\bsubtr(act\w*)?\b|(?<!^)\bsubs?$|\bt1\w*subs?\b|minus ?(?!none)\w"
    r"|\b(?:t1\w*|flair|\+?(?:ce?|cm|km|gd|gad\w*)\+?|post|pre|contrast|enh\w*) subs?\b(?! [a-z]\b))"
    r"|\b(?P<deformation>\w*\d ?warp|\w*inverse ?warp|warp(?:coef|field)|deformation\w*|jacobian\w*)\b"
    r"|\b(?P<phase>phase|(?<!^)ph|phmag|imaginary|real|fieldmaphz)[a-z]?$"
)
COMPUTED = frozenset(_COMPUTED.groupindex)
# Without a word for the sequence these still say T1 after contrast.
_STRONG = re.compile(r"\+ ?(c|gd|gad|km)\b|\bc ?\+|\bgad\w*|.\b(gd|km|ce)\b|kontrast|contrast")
# "w" and "wo" contrast: alone the one may be a letter, or "weighted"; before another word they are of that
# ("with fs").
_OF_CONTRAST = (
    r"(?= ?(?:$|\d|date|\+|(?:contrast|kontrast\w*|agent|ce|cm|c|gd|gad\w*|km|iv|inj\w*|3d|ax\w*|tra\w*"
    r"|sag\w*|cor(onal)?|mpr\w*|t1\w*|t2\w*|flair|brain|reg\w*|iso\w*)\b))"
)
_WITH = re.compile(rf"\b(with|w(?! ?o\b))\b{_OF_CONTRAST}")
_WITHOUT = re.compile(rf"\b(without|w ?o)\b{_OF_CONTRAST}")
_FLAIR_ITSELF = re.compile(r"flair|t2f\b")
_NO_AGENT = re.compile(r"(no|none|non|pre|without|nativ\w*|0|false|n)", re.IGNORECASE)
_CUT = "\0"
# Kinds of words, each by what stands for a whole word of that kind.
_WORDS = {
    kind: re.compile("|".join(patterns.split()))
    for kind, patterns in {
        "mask": r"""
            (\w*masks?|masken|masques?|msk|voi|\w*segs?|segm\w*|\w*segmentations?|(\w*lesion)?labels?(map)?s?)
            gts?|groundtruth|truth|rois?\d*|lesions?(map)?|consensus|annot(ation)?s?|contours?|delineations?
            parcellations?|predict(ed|ions?)|preds?|heatmaps?|probmaps?|\+?aparc\w*|\+?aseg\w*|wmparc|wmh
            glistrboost|ribbon|pve|[pb]les|[rmsw]*c[1-6][rmsw]*(t1|t2|flair)\w*""",
        "other image": r"""
            t2star|t2starw|pd|pdw|dp|dwi|adc|dti|hardi|noddi|fa|md|trace|swi|swan|qsm|bold|fmri|asl|perf|dsc|dce
            ktrans|cbf|cbv|epi|ct|pet|t1map|t2map|r1map|mtr|mp2rage|unit1|stir|tirm|dir|psir|ciss|fiesta|mra|mrv
            tof|angio|mrs|mrsi|svs|csi|localizer|localiser|scout|loc""",
        # As the last word these are masks, too; before it a group of patients may be called so.
        "part": r"tumou?r|o?edema|ncr|ed|et|ot",
        # "inferTs" holds what a model made of "imagesTs", "OT" the truth of ISLES.
        "inferred": r"infer(red)?|ot",
        # Words that stand beside one for masks: "labelsTr", "ground_truth".
        "beside masks": r"tr|ts|va|val|train|test|ground",
        "group of patients": r"lesions?|consensus|rois?\d*|\w*les",
        "contrast": r"""
            ce|cm|c|gd\w*|gad\w*|gbca|km|civ|post(?!op|surg|rt|rad|chemo|tx|treat)\w*|pre|contrast\w*|kontras\w*
            enh\w*|inj\w*|mdc|wo?|nativ\w*|prec\w+|pregd|pregad|noncontrast|unenhanced|with(out)?|ohne|mit|none?
            minus|bez|sem|zonder|utan|uden|uten|ilman|przed|antes|before|after|prima|dopo|nach|apr[eè]s|avant
            sans|senza""",
        # Initials before a sequence as well.
        "letter": r"[ck]m?|wo?",
        "axial": r"ax(ial)?|tra(ns(vers\w*)?)?|3d|cube|space|spc|vista",
        "upright": r"(2d)?(sag(ittal)?|cor(onal)?)",
        "processed": r"""
            bias\w*|n[34]|bc|brain|bet|hdbet|stripped|skull\w*|ss|noskull|reg\w*|coreg\w*|aligned|warped
            resampled|resliced|norm|normali[sz]ed|zscore|denoised?|smooth(ed)?|mni\w*|std|crop(ped)?|defaced?
            preproc\w*|corr(ected)?|conform(ed)?|reorient(ed)?|isovox|moco|eq|tilt|restore""",
        "fluid": r"dark|fluid|flu|fl|da|dk|tirm|t2|irprep|ir",
        "structure": r"""
            nifti\d?|niftis|nii|anat|scans?|images?(tr|ts|va|val)?|imgs?|dicoms?|dcm|resources?|files|raw|data
            input|mri?|mrs|volumes?|series|ser|seq|sequences?|slices|secondary|converted|out|output|export(ed)?
            orig(inal)?|assessors|meta(data)?|pictures?|png|jpe?g|tiff?|native|structural|conventional
            unprocessed|processed|preprocessed""",
        # What protocols are called beside the sequence.
        "protocol": r"""
            se|tse|fse|ffe|tfe|gre|fl[23]d|[23]d|spc|space|cube|vista|mpr|ir|irprep|fs|fatsat|vibe|iso|propeller
            blade|ns|sense|caipi\w*|std|hr|pmr|head|brain""",
        # Levels of a tree; beside a sequence they are what a user calls a place ("t1_study").
        "level": r"sessions?|visits?|exams?|examinations?|study|studies|experiments?",
        # What stands in a patient's folder beside its images and is not a visit.
        "derived": r"""
            thumb(nail)?s?|previews?|icons?|old|backup|derivatives?|derived|pre?processed|preproc(essing)?
            registered|coregistered|normali[sz]ed|skull|strip(ped)?|results?|reports?|screenshots?""",
        # Initials that could be contrast medium, before a patient's number.
        "initials": r"[ck]m?|gd|gad|ce|pre|post",
        "number": r"\d+[a-z]?",
        # dcm2niix writes them without zeros in front, and with a letter where names clash.
        "series number": r"[1-9]\d{0,3}[a-z]?",
        # Neither that nor a time of day.
        "patient number": r"(?!(?:[01]\d|2[0-3])[0-5]\d[0-5]\d$)\d{5,}",
    }.items()
}
# Entities that are such without a subject, too; "MT-01_flair" is of a patient.
_COMMON_ENTITIES = ("sub", "ses", "acq", "ce", "run", "rec", "echo", "space", "desc", "task")
_NUMBERED = re.compile(r"([^\W\d_]+)(\d+)")
_VISIT = re.compile(
    r"ses-[a-z0-9]+|(ses|session|visit|v|tp|timepoint|time|week|month|year|day)[-_ ]?\d+([-_]\d+)?"
    r"|baseline|bl|follow[-_]?up[-_]?\d*|fu[-_]?\d*|(pre|post)[-_]?op(erative)?",
    re.IGNORECASE,
)
_SERIES_FOLDERS = ("scans", "series", "dicom", "dicoms", "assessors", "resources")
_TRAILING = re.compile(r"^(.*?)([0-9]+)$", re.DOTALL)
_MIDDLE = re.compile(
    r"^(?P<before>.*[_\-. ]|)(?P<word>slice|sl|s|z|im|img|image|frame|page|p|no|n)?"
    r"(?P<number>[0-9]+)(?P<after>[_\-. ].*)$",
    re.DOTALL | re.IGNORECASE,
)
# A name that fits more studies than this is ignored.
_NEAR = 32

# A sequence of ours, or the name of another kind of image.
ImageKind = MrSequence | str | None
Identity = tuple[str, ...]


@dataclass(frozen=True)
class NiftiName:
    """What the name of a file or folder says."""

    # The sequence, another kind of image ("T2", "DWI", "T1 and FLAIR"), or None.
    sequence: ImageKind
    contrast: bool  # after contrast medium, whatever the sequence
    # The tokens for patient, visit and number, in lower case; a date is one token, "date20150101".
    identity: Identity
    lead: int  # how many of these stand before the sequence, BIDS entities apart
    processed: int  # words that say that it was computed from another file ("brain", "reg")
    plane: int  # 0 for axial or three-dimensional, 2 for sagittal or coronal, else 1
    run: int  # BIDS' "run-", else 0
    onto_flair: bool  # it was put onto FLAIR's grid: "T1_to_FLAIR", "space-FLAIR_T1w"
    series: str  # the name without sequence, contrast and entities, for people
    agent: bool | None  # "w" or "wo" contrast medium; None for neither or both

    @property
    def labels(self) -> int:
        """How many BIDS entities (``sub-``, ``ses-``) the identity begins with."""
        return sum(token.startswith(("sub-", "ses-")) for token in self.identity)

    @property
    def before(self) -> Identity:
        """The part of the identity before the sequence, BIDS entities apart."""
        return self.identity[self.labels : self.labels + self.lead]

    @property
    def merit(self) -> tuple[bool, int, int, int, int]:
        """Sort key among several files of one sequence of one patient: the smallest is taken."""
        return self.contrast, self.processed, self.plane, -self.run, len(self.identity)


def stem(name: str) -> str:
    """A file's name without the suffix of a format; other dots stay."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def sidecar_of(name: str) -> str:
    """The name of the JSON file that dcm2niix and BIDS write beside a NIfTI."""
    return stem(name) + ".json"


def promises_image(name: str) -> bool:
    """Whether the suffix promises a NIfTI, TIFF, PNG or JPEG."""
    return name.lower().endswith(PROMISING)


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts ``a2`` before ``a10``."""
    parts = re.split(r"([0-9]+)", name.lower())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def slice_number(name: str) -> tuple[str, int | None]:
    """Series and slice number: the digits at the end of the name, else a numbered token in it."""
    whole = stem(name)
    if match := _TRAILING.match(whole):
        return match[1].rstrip("_-. "), int(match[2])
    if match := _MIDDLE.match(whole):
        return match["before"].rstrip("_-. ") + match["after"], int(match["number"])
    return whole, None


def read_name(name: str) -> NiftiName:
    """What the name of a file says."""
    return _read(stem(name))


def sequence_of(name: str) -> ImageKind:
    """The sequence a name says; of two of FLAIR, T1 and T2 both, but T2 with FLAIR is FLAIR."""
    return read_name(name).sequence


def nifti_series(name: str) -> str:
    """The name without its sequence: what the files of one study share."""
    return read_name(name).series


def another_than(sequence: MrSequence, kind: ImageKind) -> str | None:
    """A kind of image in words if it is not this sequence; ``None`` where it is, or may be."""
    if kind is None or kind is sequence:
        return None
    # "T1 and FLAIR" contradicts neither.
    words = kind.value if isinstance(kind, MrSequence) else kind
    return None if sequence.value in words.split(" and ") else words


def is_mask(name: str) -> bool:
    """Whether a word of a file's or folder's name says mask, segmentation or label.

    What BIDS entities say does not count (``acq-roi``), but for ``label-`` and ``seg-``.
    """
    free, _ = _without_entities(_VSD.sub(r"\1", stem(name)))
    tokens = [token.lower() for token in _TOKEN.findall(free)]
    return bool(_only("mask", (*tokens, *_words_of(free))) or _only("part", tokens[-1:]))


def is_mask_folder(name: str) -> bool:
    """Whether a folder's name says that it holds masks and nothing else, as ``masks`` or ``5_MASK``.

    A number behind is a patient's (``seg_01``), and a group of patients may be called after its lesions.
    """
    words = _words_of(_VSD.sub(r"\1", name))
    words = words[1:] if words and words[0].isdigit() else words
    words = [word for word in words if not _is("beside masks", word)]
    masks = {*_only("mask", words), *_only("inferred", words)}
    masks -= {*_only("group of patients", masks)}
    return bool(masks) and all(word in masks or _is("structure", word) for word in words)


def is_derived_folder(name: str) -> bool:
    """Whether a folder beside images is called after previews or after what was computed of them."""
    words = _words_of(name)
    return words[-1:] in (["segmentation"], ["segmentations"]) or _all_are("derived", words)


@lru_cache(maxsize=4096)
def is_structural_folder(name: str) -> bool:
    """Whether a folder's name does not identify the study in it.

    Such are names of sequences, masks, formats and levels (``4_FLAIR``, ``NIFTI``, ``anat``, ``scans``).
    """
    read = _read(name)
    rest = [token for token in read.identity if not _is("structure", token)]
    if is_mask_folder(name):
        return True
    if read.sequence is None:  # a number would tell "scan_1" from "scan_2", or may be a patient's
        return bool(read.identity) and all(_is("level", token) for token in rest)
    return all(
        _is("protocol", token) or _is("series number", token.removeprefix("0")) for token in rest
    )


def sequence_folder(inside: Iterable[str], above: Iterable[str] = ()) -> str:
    """The name of the folder that says a file's sequence, as ``4_FLAIR`` or ``T2w``; empty without one.

    Another sequence than FLAIR is said by the innermost such folder below the path that was given, else by
    one above, if no folder between tells one study from another. FLAIR is said by the folder that tells the
    file's study from others (``p1_FLAIR``), or by one anywhere above that is called by nothing else. A place
    such as ``FLAIR_study/p1`` or ``t1_study`` above the given path does not name one image.

    ``inside`` are the folders below the path that was given, ``above`` those above it, outermost first.
    """
    inner = list(inside)[::-1]
    folders = [*inner, *list(above)[::-1]]
    near = list(takewhile(is_structural_folder, folders))
    name = next(filter(_is_of_a_sequence, (*inner, *near[len(inner) :])), "")
    if name and sequence_of(name) is not MrSequence.FLAIR:
        return name
    may_say = (*inner[: len(near) + 1], *filter(is_structural_folder, folders))
    name = next(filter(_is_of_a_sequence, may_say), "")
    return name if sequence_of(name) is MrSequence.FLAIR else ""


def _is_of_a_sequence(folder: str) -> bool:
    sequence = sequence_of(folder)
    # With a number other codes may be a patient's: "PD_001", "CT_12".
    ours = isinstance(sequence, MrSequence) or sequence == "T2"
    return ours or (sequence is not None and not any(map(str.isdigit, folder)))


def _is_series_folder(name: str, above: str) -> bool:
    """Whether a folder's name is the number of a series, by the folder above: ``scans/5``."""
    return _is("number", name) and above.lower() in _SERIES_FOLDERS


def _tells_study(name: str, above: str) -> bool:
    return not _is_series_folder(name, above) and not is_structural_folder(name)


def series_depth(parts: Iterable[str]) -> int:
    """How many of the innermost folders are those of a series within its study.

    Counted up to the outermost that is called by a sequence or by the number of a series, as long as none
    tells studies apart: 2 of ``patient/4_FLAIR/NIFTI`` and of ``patient/scans/4/NIFTI``.
    """
    depth = 0
    for level, (above, name) in enumerate(reversed(list(pairwise(["", *parts]))), 1):
        if _tells_study(name, above):
            break
        if _is_series_folder(name, above) or sequence_of(name) is not None:
            depth = level
    return depth


def telling_name(parts: Iterable[str]) -> str | None:
    """The name of the innermost folder that tells studies apart, ``None`` if no name does.

    A visit takes its patient's name along: ``sub-01_ses-02``, ``P1_baseline``.
    """
    telling = [name for above, name in pairwise(["", *parts]) if _tells_study(name, above)]
    is_visit = telling and (_VISIT.fullmatch(telling[-1]) or _DATE.fullmatch(telling[-1]))
    return "_".join(telling[-2:] if is_visit else telling[-1:]) or None


def group_by_flair(
    shown: Mapping[str, tuple[ImageKind, int | None]],
) -> list[tuple[str, list[str], list[str]]]:
    """Tell the NIfTI files of one folder into studies, one for each patient or visit with a FLAIR.

    A folder with a single FLAIR is one study, whatever its files are called. FLAIR files are versions of one
    where their identities are the same but for words behind the sequence (``FLAIR``, ``FLAIR_brain``), or but
    for series numbers: where numbers tell no patients (no T1 has the number of a FLAIR) and one of the files
    is clearly the best or all have one date, or where their sidecars say that these are the series' numbers.
    With several studies, a file belongs to the one whose identity it has, else to the only one with which it
    shares words, dates or numbers that tell studies apart. No T1 is of two studies.

    ``shown`` says by name what a file shows and the SeriesNumber of its sidecar. The result has for each
    FLAIR a title (what the names share, else the FLAIR's own), its files, and the T1 and T1C that may be of
    it or of another.
    """
    kinds = {name: kind for name, (kind, _) in shown.items()}
    read = _without_series_numbers(shown)
    partners = {name for name in read if kinds[name] in (MrSequence.T1, MrSequence.T1C)}
    flairs = _versions({name: read[name] for name in read if kinds[name] is MrSequence.FLAIR})
    by_number = any(
        read[name].identity in flairs and _only("number", read[name].identity) for name in partners
    )
    groups = list(flairs.values())
    if partners and not by_number:
        groups = _joined(flairs, read)
    best = [min(group, key=lambda name: read[name].merit) for group in groups]
    if len(groups) < 2:
        return [(read[name].series, list(read), []) for name in best]
    counts = Counter(read[name].series for name in best)
    titles = [
        read[name].series if read[name].series and counts[read[name].series] == 1 else stem(name)
        for name in best
    ]
    members, doubtful = _with_partners(groups, read, partners, by_number=by_number, kinds=kinds)
    return list(zip(titles, members, doubtful, strict=True))


def _versions(flairs: Mapping[str, NiftiName]) -> dict[Identity, list[str]]:
    """FLAIR files by identity; ``p_FLAIR_filled`` is a version of ``p_FLAIR`` where that is there."""
    identities = {read.identity for read in flairs.values()}
    versions: dict[Identity, list[str]] = {}
    for name, read in flairs.items():
        key = identity = read.identity
        first = read.lead + read.labels
        while len(identity) > first and identity[-1].isalpha() and not _TREATED.match(identity[-1]):
            identity = identity[:-1]
            key = identity if identity in identities else key
        versions.setdefault(key, []).append(name)
    return versions


def _joined(flairs: Mapping[Identity, list[str]], read: Mapping[str, NiftiName]) -> list[list[str]]:
    """Groups of FLAIR files, joined over series numbers where one is the best or all have one date."""
    alike: dict[Identity, list[list[str]]] = {}
    for identity, names in flairs.items():
        alike.setdefault(_without_numbers(identity), []).append(names)
    joined = []
    for words, groups in alike.items():
        together = [name for names in groups for name in names]
        merits = sorted(read[name].merit for name in together)
        one_visit = any(word.startswith("date") for word in words)
        is_one = len(merits) > 1 and (one_visit or merits[0] < merits[1])
        joined += [together] if is_one else groups
    return joined


def _with_partners(
    groups: list[list[str]],
    read: Mapping[str, NiftiName],
    partners: set[str],
    *,
    by_number: bool,
    kinds: Mapping[str, ImageKind],
) -> tuple[list[list[str]], list[list[str]]]:
    """The files of each of several studies, and the T1 and T1C that may be of it or of another."""
    fitting_studies = _matcher([[read[name] for name in group] for group in groups], by_number)
    members, doubtful = [list(group) for group in groups], [list[str]() for _ in groups]
    flairs = {name for group in groups for name in group}
    homeless: list[str] = []
    for name in [name for name in read if name not in flairs]:
        fitting, sure = fitting_studies(read[name])
        for index in fitting:
            if sure:
                members[index].append(name)
            elif name in partners:
                doubtful[index].append(name)
        if not fitting and name in partners and len(groups) <= _NEAR:
            homeless.append(name)
    for name in homeless:
        # The number of no study, which may be a series' number: whoever lacks its sequence hears of it.
        for group, other in zip(members, doubtful, strict=True):
            lacking = all(kinds[member] is not kinds[name] for member in group)
            if lacking and not are_apart(read[name], read[group[0]]):
                other.append(name)
    return members, doubtful


def _matcher(
    groups: list[list[NiftiName]], by_number: bool
) -> Callable[[NiftiName], tuple[list[int], bool]]:
    """A function from a name to the studies it may belong to, and whether it is sure; then it is one."""
    exact = {name.identity: index for index, group in enumerate(groups) for name in group}
    holders: dict[str, set[int]] = {}  # the studies that have a token
    for identity, index in exact.items():
        for token in identity:
            holders.setdefault(token, set()).add(index)

    @cache
    def holding(telling: Identity) -> set[int]:
        """The studies that hold most of the tokens."""
        studies: set[int] = set()
        # Words first: a number may be of a patient here and of a series there.
        for token in sorted(telling, key=lambda token: _is("number", token)):
            studies = (studies & holders[token]) or studies or holders[token]
        return studies or set(range(len(groups)))

    def fitting(name: NiftiName) -> tuple[list[int], bool]:
        if name.identity in exact:
            return [exact[name.identity]], True
        # What all studies share tells none of them.
        shared = [token for token in name.identity if token in holders]
        telling = tuple(token for token in shared if len(holders[token]) < len(groups))
        studies = holding(telling)
        strange = len(shared) < len(name.identity)
        if len(studies) > _NEAR or (strange and by_number and not telling):
            return [], False
        near = [index for index in sorted(studies) if not are_apart(name, groups[index][0])]
        sure = len(near) == len(studies) == 1 and bool(telling)
        if sure and strange:
            # "clara_t1_7" is not of "berta_flair_7", nor "clara_t1_iso" of "berta_flair_iso".
            other = groups[near[0]][0]
            anchored = bool(_without_numbers(telling)) and not begin_apart(name, other)
            sure = anchored or name.before[:1] == other.before[:1] != ()
        return near, sure

    return fitting


def are_apart(first: NiftiName, second: NiftiName) -> bool:
    """Whether two names clearly say different patients or visits.

    BIDS subjects, sessions or dates differ, or words with a number that say who it is (``case2``; others,
    such as ``p2``, before the sequence), or long numbers before the sequence (``GBM-00002``).
    """
    tells = [
        [{token for token in name.identity if token.startswith(key)} for name in (first, second)]
        for key in ("sub-", "ses-", "date")
    ]
    tells.append([set(_only("patient number", name.before)) for name in (first, second)])
    numbers, others = _numbered(first), _numbered(second)
    return any(left and right and left.isdisjoint(right) for left, right in tells) or any(
        others.get(word, number) != number for word, number in numbers.items()
    )


def _numbered(name: NiftiName) -> dict[str, str]:
    """The numbers of words that say who or when it is."""
    numbers: dict[str, str] = {}
    for index, token in enumerate(name.identity[name.labels :]):
        match = _NUMBERED.fullmatch(token)
        if match and match[1] != "date" and (index < name.lead or _PERSON.fullmatch(token)):
            numbers.setdefault(match[1], match[2].lstrip("0"))
    return numbers


def begin_apart(first: NiftiName, second: NiftiName) -> bool:
    """Whether both names have words before the sequence, and none in common; series numbers do not count."""
    words = [set(_without_numbers(name.before)) for name in (first, second)]
    return all(words) and words[0].isdisjoint(words[1])


def shared_tokens(first: NiftiName, second: NiftiName) -> tuple[int, int]:
    """How many words and dates two identities share, and how many numbers, which may be of series."""
    shared = set(first.identity) & set(second.identity)
    numbers = len(_only("number", shared))
    return len(shared) - numbers, numbers


def is_part_of(series: str, other: str) -> bool:
    """Whether the tokens of one series begin the other, such as ``sub-01``, ``sub-01_acq-a``."""
    tokens = (_TOKEN.findall(text.lower()) for text in (series, other))
    return all(first == second for first, second in zip(*tokens, strict=False))


def series_numbers_in(identity: Identity) -> tuple[int, ...]:
    """The numbers in an identity that may be of series."""
    return tuple(map(_value, _only("series number", identity)))


def _without_numbers(identity: Identity) -> Identity:
    """An identity without what may be numbers of series; ``007`` is a patient's."""
    return tuple(token for token in identity if not _is("series number", token))


def _value(token: str) -> int:
    return int(token.rstrip(ascii_lowercase))


def _without_series_numbers(
    shown: Mapping[str, tuple[ImageKind, int | None]],
) -> dict[str, NiftiName]:
    """The names without the numbers that their sidecars call the series', if each has its own so.

    One name alone may have a patient's number that is by chance that of the series.
    """
    read = {name: read_name(name) for name in shown}
    numbers = {name: number for name, (_, number) in shown.items() if number is not None}
    if len(set(numbers.values())) < 2:
        return read
    changed = dict(read)
    for name, number in numbers.items():
        old = read[name]
        same = [token for token in _only("number", old.identity) if _value(token) == number]
        if not same:
            return read
        last = len(old.identity) - 1 - old.identity[::-1].index(same[-1])
        identity = old.identity[:last] + old.identity[last + 1 :]
        in_front = old.labels <= last < old.labels + old.lead
        changed[name] = replace(old, identity=identity, lead=old.lead - in_front)
    return changed


@lru_cache(maxsize=100_000)
def _read(whole: str) -> NiftiName:
    whole = _VSD.sub(r"\1", whole)
    free, entities = _without_entities(whole)
    text = without_minus(_POSTFIX.sub("", _TARGET.sub(_CUT, free)))
    # Dates, visits and patients as one token each: "pre-op" is not contrast, nor "case 1" a series.
    text = _DATE.sub(r" date\1\3\4 ", text)
    text = _TREATED.sub(lambda match: f" {match[1]}{match[2]} ".lower(), text)
    text = _PERSON.sub(r" \1\2 ", text)
    tokens = [(token, _words(token)) for token in _TOKEN.findall(text)]
    if len(tokens) > 1 and _is("initials", tokens[0][1]) and tokens[1][0].isdigit():
        tokens[:2] = [(tokens[0][0] + tokens[1][0], "")]
    words = " ".join(word for _, word in tokens)
    sequence, contrast = _sequence_in(words)
    if sequence is not None and " and " in sequence and "sub" in entities:
        sequence, contrast = _sequence_in(tokens[-1][1])  # BIDS: the suffix speaks
    if entities.get("ce") and not _NO_AGENT.fullmatch(entities["ce"]):
        contrast = True
        sequence = MrSequence.T1C if sequence is MrSequence.T1 else sequence
    if entities.get("part", "mag") != "mag":
        sequence = "phase"
    target = "".join(match[0] for match in _TARGET.finditer(whole))
    roles: list[str] = []
    for _, word in tokens:
        roles.append(_role(word, sequence, after_sequence="sequence" in roles))
    by_role = [(token, role) for (token, _), role in zip(tokens, roles, strict=True)]
    labels = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    first = roles.index("sequence") if "sequence" in roles else 0
    processed = roles.count("processed") + len({"space", "desc", "rec", "proc"} & entities.keys())
    # Cut from the name itself, so that it reads as it did.
    cut = [token for token, role in by_role if role in ("sequence", "contrast")]
    series = _TARGET.sub(_CUT, _without_entities(whole, but=("sub", "ses"))[0])
    series = _TOKEN.sub(lambda match: _CUT if match[0] in cut else match[0], series)
    after, before = _WITH.search(words), _WITHOUT.search(words)
    return NiftiName(
        sequence,
        contrast,
        identity=(*labels, *(token.lower() for token, role in by_role if not role)),
        lead=roles[:first].count(""),
        processed=processed + bool(_SPM.search(words)) + bool(target),
        plane=_plane_of(f"{words} {_words(entities.get('acq', ''))}"),
        run=int(entities["run"]) if entities.get("run", "").isdecimal() else 0,
        onto_flair="flair" in f"{target} {entities.get('space')}".lower(),
        series=re.sub(r"[_\-. ]*\0", "", series).lstrip("_-. "),
        agent=None if bool(after) is bool(before) else bool(after),
    )


def _without_entities(whole: str, but: Identity = ()) -> tuple[str, dict[str, str]]:
    """A stem without its BIDS entities (``but`` those with these keys), and all of them by their keys."""
    entities: dict[str, str] = {}
    bids = whole.lower().startswith("sub-")

    def take(match: re.Match[str]) -> str:
        key, value = match["key"].lower(), match["value"]
        patient = not bids and key not in _COMMON_ENTITIES  # "MT-01"
        if patient or (key == "ce" and HINTS["T1"].search(_words(value))):  # "CE-T1" is a sequence
            return match[0]
        entities.setdefault(key, value.lower())
        return match[0] if key in but else _CUT

    return _ENTITY.sub(take, whole), entities


def _is(kind: str, word: str) -> bool:
    """Whether a word is one of this kind of `_WORDS`."""
    return _WORDS[kind].fullmatch(word) is not None


def _only(kind: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if _is(kind, word)]


def _all_are(kind: str, words: list[str]) -> bool:
    return bool(words) and all(_is(kind, word) for word in words)


def _words(token: str) -> str:
    return _CAMEL.sub(" ", token).lower()


def _words_of(name: str) -> list[str]:
    return [word for token in _TOKEN.findall(name) for word in _words(token).split()]


def _plane_of(words: str) -> int:
    """See `NiftiName.plane`; three-dimensional goes before the plane it was acquired in."""
    return 0 if _only("axial", words.split()) else 2 if _only("upright", words.split()) else 1


def _sequence_in(words: str) -> tuple[ImageKind, bool]:
    """The sequence that words say, and whether they say after contrast medium."""
    hint = contrast_hint(words)
    after = hint is True or (hint is None and bool(_T1C_MORE.search(words)))
    if computed := _COMPUTED.search(words):
        return f"{computed.lastgroup}", after
    flair, t2 = HINTS["FLAIR"].search(words), HINTS["T2"].search(words)
    t1 = HINTS["T1"].search(words) or (not flair and not t2 and _T1_MORE.search(words))
    if t1 and not _FLAIR_ITSELF.search(words):
        flair = None  # Siemens' T1 with nulled fluid: "t1_tirm_tra_dark-fluid"
    matches = [("T1C" if after else "T1", t1), ("T2", None if flair else t2), ("FLAIR", flair)]
    # GE's "T1 FLAIR" is not "FLAIR on T1".
    named = [name for _, name in sorted((match.start(), name) for name, match in matches if match)]
    if len(named) > 1:
        return " and ".join(named), after
    others = _only("other image", words.split())
    if named == ["T2"] and not {"tirm", "stir"}.intersection(others):
        return "T2", after
    if named and named != ["T2"]:
        return MrSequence(named[0]), after
    if others:
        return others[0].upper(), after
    return (MrSequence.T1C if after and _STRONG.search(words) else None), after


@lru_cache(maxsize=4096)
def _role(words: str, sequence: ImageKind, *, after_sequence: bool) -> str:
    """What a token is for: sequence, contrast, plane, processed, or empty for the identity."""
    each = words.split()
    if not each:
        return ""
    ours, t1 = isinstance(sequence, MrSequence), sequence in (MrSequence.T1, MrSequence.T1C)
    if (
        any(HINTS[name].search(words) for name in ("FLAIR", "T1", "T2"))
        or _T1_MORE.search(words)
        or (sequence is MrSequence.FLAIR and _all_are("fluid", each))
        or (t1 and set(each) <= {"mp", "rage"})
        or (not ours and sequence is not None and _only("other image", each))
    ):
        return "sequence"
    if all(_is("axial", word) or _is("upright", word) for word in each):
        return "plane"
    if sequence is None:
        return ""
    # Before the sequence, short words may be initials, and "post" a visit.
    believed = after_sequence or (t1 and not _all_are("letter", each)) or _STRONG.match(words)
    if believed and _all_are("contrast", [word.strip("+") for word in each]):
        return "contrast"
    long_enough = after_sequence or len(words) > len("n4")
    return "processed" if long_enough and _all_are("processed", each) else ""
