"""What a file's name says: sequence, mask or not, series and slice number (read stage).

In: a file's name. Out: plain values. Names are only a hint for what the bytes cannot tell: which
sequence a NIfTI holds, and in which order slices stand. A name is split into *tokens* at ``_ - .``
and blanks. The *series* of a file is what its name shares with the other files of its study: the
name without the sequence (NIfTI), or without the slice number (slices).
"""

from __future__ import annotations

import re
from pathlib import PurePath

from gliosight.study import Sequence

# Suffixes that promise something this tool reads; a file with one is mislabelled when its bytes
# differ.
PROMISING = (".nii.gz", ".nii", ".tiff", ".tif", ".btf", ".tf8", ".png", ".jpeg", ".jpg")
SUFFIXES = (*PROMISING, ".hdr.gz", ".img.gz", ".hdr", ".img", ".dcm", ".gz")

# What an archive is called, so that one which is packed inside only is not taken for it.
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".txz", ".bz2", ".tbz2", ".zst")

_TOKEN = re.compile(r"[^_\-. ]+")
_T1 = re.compile(r"(ax|axial|sag|cor|3d)?t1(w|wi|n|pre)?\d?(mprage|mpr|spgr|fspgr|bravo)?")
_T1C = re.compile(
    r"(ax|axial|sag|cor|3d)?(t1(w|wi)?(c|ce|gd|gad|post|km|contrast|enh)|ct1|t1c[+e]?)"
)
_CONTRAST = re.compile(r"(ce|gd|gad|gado|gadolinium|post|postcontrast|contrast|postgd|enhanced)")
_OTHER = re.compile(
    r"(t2|t2w|t2wi|t2n|t2star|t2starw|pd|pdw|dwi|adc|dti|fa|md|trace|swi|bold|asl|perf|cbf|cbv|epi"
    r"|ct|pet|t1map|t2map|r1map|mtr|mp2rage|unit1)"
)
_MASK = re.compile(
    r"(\w*mask|masks|[ad]?seg|segs|probseg|segmentation|segmentations|labels?|gt|groundtruth|rois?"
    r"|lesions?|consensus)"
)
# "T1_to_FLAIR" is a T1; what follows says only on which grid it was put.
_TARGET = re.compile(r"([_\-. ](to|in)[_\-. ].*$)|((?:^|_)space-[A-Za-z0-9]+)", re.IGNORECASE)
_CE_ENTITY = re.compile(r"((?:^|_)ce-)[A-Za-z0-9+]+", re.IGNORECASE)
_TRAILING = re.compile(r"^(.*?)([0-9]+)$", re.DOTALL)
_MIDDLE = re.compile(
    r"^(?P<before>.*[_\-. ]|)(?P<word>slice|sl|s|z|im|img|image|frame|page|p|no|n)?"
    r"(?P<number>[0-9]+)(?P<after>[_\-. ].*)$",
    re.DOTALL | re.IGNORECASE,
)


def stem(name: str) -> str:
    """A file's name without the suffix of a format; other dots stay."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def promises_image(name: str) -> bool:
    """Whether the suffix promises a NIfTI, TIFF, PNG or JPEG."""
    return name.lower().endswith(PROMISING)


def promises_archive(name: str) -> bool:
    """Whether the suffix promises an archive, or there is none that would deny it."""
    return not PurePath(name).suffix or name.lower().endswith(ARCHIVES)


def is_mask(name: str) -> bool:
    """Whether a token of the name says mask, segmentation or label."""
    return any(_MASK.fullmatch(one.lower()) for one in _TOKEN.findall(stem(name)))


def sequence_of(name: str) -> Sequence | str | None:
    """The sequence a name says, another one's name (such as ``"T2"``), or ``None``.

    FLAIR, T1 and T1C in one name cancel out, as do T1 and T2. T2 with FLAIR is FLAIR, and other
    codes beside one of ours (MD, PD, CT) count as part of the patient's.
    """
    found, _ = _read_tokens(stem(name))
    return found


def sequence_of_folder(name: str) -> Sequence | str | None:
    """The sequence that a folder of one sequence's files is called after; ``None`` for other folders."""
    plain = re.sub(r"^[0-9]+[_\-. ]+", "", name)
    found = sequence_of(plain)
    return found if found is not None and not nifti_series(plain) else None


def is_structural_folder(name: str) -> bool:
    """Whether a folder's name says nothing about whose study it holds."""
    return sequence_of_folder(name) is not None or name.lower() in _STRUCTURAL


def is_mask_folder(name: str) -> bool:
    """Whether every word of a folder's name says mask."""
    words = [word.lower() for word in _TOKEN.findall(name)]
    return (
        bool(words)
        and all(
            word.isdigit() or _MASK.fullmatch(word) or word in ("images", "segm") for word in words
        )
        and any(_MASK.fullmatch(word) or word == "segm" for word in words)
    )


_STRUCTURAL = frozenset(
    {
        "anat",
        "nifti",
        "nii",
        "niftis",
        "dicom",
        "dicoms",
        "images",
        "image",
        "scans",
        "files",
        "resources",
    }
)


def contradiction(name: str, sequence: Sequence) -> str | None:
    """What a name says instead of the sequence that the file was given as; ``None`` if nothing."""
    if is_mask(name):
        return "a mask or label map"
    said = sequence_of(name)
    if said is None or said is sequence:
        return None
    return said.value if isinstance(said, Sequence) else said


def nifti_series(name: str) -> str:
    """The name without its sequence: what the files of one study share."""
    _, rest = _read_tokens(stem(name))
    return rest


def slice_number(name: str) -> tuple[str, int | None]:
    """Series and slice number: the digits at the end of the name, else a numbered token in it."""
    whole = stem(name)
    if match := _TRAILING.match(whole):
        return match[1].rstrip("_-. "), int(match[2])
    if match := _MIDDLE.match(whole):
        return match["before"].rstrip("_-. ") + match["after"], int(match["number"])
    return whole, None


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts ``a2`` before ``a10``."""
    parts = re.split(r"([0-9]+)", name.lower())
    return tuple((0, int(one)) if one.isdecimal() else (1, one) for one in parts if one)


def is_part_of(series: str, other: str) -> bool:
    """Whether the tokens of one series begin the other, such as ``sub-01``, ``sub-01_acq-a``."""
    one, two = (_TOKEN.findall(text.lower()) for text in (series, other))
    short = min(len(one), len(two))
    return one[:short] == two[:short]


def _read_tokens(whole: str) -> tuple[Sequence | str | None, str]:
    """What a stem says, and the series: the stem without the tokens that said it."""
    plain = _CE_ENTITY.sub(r"\1gadolinium", _TARGET.sub("", whole))
    tokens = [(token, token.lower()) for token in _TOKEN.findall(plain)]
    said = {token: _sequence_of_token(word) for token, word in tokens}
    ours = {one for one in said.values() if isinstance(one, Sequence)}
    others = {one for one in said.values() if isinstance(one, str) and one not in ours}
    if ours == {Sequence.T1} and any(_CONTRAST.fullmatch(word) for _, word in tokens):
        ours = {Sequence.T1C}
    cut = {token for token, one in said.items() if one in ours or one == "T2"}
    cut |= {token for token, one in said.items() if one in others and not ours}
    cut |= {token for token, one in said.items() if isinstance(one, Sequence)}
    cut |= {token for token, word in tokens if _CONTRAST.fullmatch(word)}
    # Cut from the name itself, so that a series reads as its files do.
    kept = _TOKEN.sub(
        lambda match: "\0" if match[0] in cut else match[0],
        _CE_ENTITY.sub("", _TARGET.sub("", whole)),
    )
    series = re.sub(r"[_\-. ]*\0", "", kept).lstrip("_-. ")
    found: set[Sequence | str] = set(ours or others)
    if "T2" in others and ours and ours != {Sequence.FLAIR}:
        found.add("T2")
    return (found.pop() if len(found) == 1 else None), series


def _sequence_of_token(word: str) -> Sequence | str | None:
    if word in ("t1flair", "flairt1"):
        return "T1-FLAIR"
    if "flair" in word or word == "t2f":
        return Sequence.FLAIR
    if _T1C.fullmatch(word):
        return Sequence.T1C
    if _T1.fullmatch(word):
        return Sequence.T1
    if _OTHER.fullmatch(word):
        return "T2" if re.fullmatch(r"t2(w|wi|n)?", word) else word.upper()
    return None
