"""Words that say what an image shows: of descriptions, and of ImageType (read stage, DICOM).

Apart from `rules`, since the names of NIfTI files are judged by the same words, without pydicom. Descriptions
(SeriesDescription, ProtocolName: PS3.3 section C.7.3.1) are typed by hand, copied from other protocols, and
lost on anonymisation: their words exclude and break ties, they never prove a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

# In a name, T1 stands alone or behind a plane or dimension: "ax_t1", "3DT1", "sagT1w".
_BEFORE = r"(?:\b|(?<=ax)|(?<=axial)|(?<=sag)|(?<=cor)|(?<=tra)|(?<=[23]d))"

# Words are looked for in lower case, with everything but letters, digits and "+" turned into blanks.
HINTS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        name: re.compile(pattern)
        for name, pattern in {
            # Sequences.
            "FLAIR": r"flair|dark ?fl(u|\b)|\b(da|dk) ?fl|tirm\b.*\bdark\b|\bt2f\b",
            "T1": _BEFORE + r"t1(?!\d)(?! ?map)(?! ?rho)|mp ?rage|\bf?spgr\b|\bbravo\b|\bt1\w*fl\b",
            "T2": _BEFORE + r"t2(?!\d)(?!f\b)(?! ?map)(?! ?star)(?! ?\*)",
            "PD": r"\bpdw?i?\b|proton ?dens",
            "STIR": r"stir\b",
            "DIR": r"\bdir\b|double inversion|doppel ?inversion",
            "PSIR": r"\bpsir\b|phase ?sensitive",
            "MP2RAGE": r"mp2 ?rage",
            "SSFP": r"\bciss\b|fiesta|tru ?fi|true ?fisp|\bb ?(ffe|tfe)\b|balanced",
            # Never analysed.
            "mask": r"mask|\brois?\b|\bvoi\b|segmentation|\bsegmented\b|\bsegs?\b|\blabels?\b"
            r"|(tumou?r|lesion|brain|flair)(seg|rois?|label)"
            r"|label ?map|contour|\b[gcp]tvs?\d*\b|annotation|rtstruct|object ?map|ground ?truth"
            r"|heat ?map|predict",
            "localizer": r"\bloc\b|\blocs\b|locali[sz]|scout|\bsurvey\b|smart ?brain|\bpilot\b"
            r"|\b3 ?pl(ane)?s?\b|tri ?plan|plan ?scan",
            "calibration": r"calibrat|\basset\b|\bcal\b|(coil|ref(erence)?) ?scan|sense ?ref",
            "field map": r"\bb0\b|field ?map|\bfmap\b|\bgre field\b|b1 ?map|\bshim",
            "map": r"\b(t1|t2|r1|r2|pd|t2 ?star|r2 ?star|t1 ?rho|q) ?maps?\b|mapit|parametric"
            r"|\be?d?adc\b|apparent ?diff|fa ?map|col(ou?r)? ?fa|subtract|subtr\b|\bmtr\b|synthetic|\bquant",
            "projection": r"\bmi?n?ip\b|minip|\bmips?\b|\brendered\b|\bvrt?\b",
            "diffusion": r"\bdwi|\bdti|diffusion|\bdiff\b|tracew?\b|\btensor\b|\bivim\b|\bresolve\b"
            r"|\bb ?(500|700|800|1000|1500|2000|3000)\b|\bdkdwi|\bhardi\b|\bnoddi\b",
            "perfusion": r"perf|\bdsc\b|\bdce\b|\bp?c?asl\b|\bpasl\b|\br?cb[fv]\b|\bmtt\b|\bttp\b"
            r"|\btmax\b|ktrans|\bfmri\b|\bbold\b|\bep2d|\btwist\b|\bgrasp\b",
            "angiography": r"\btof|\bmr[av]\b|angio|venogr|inhance|\bpca\b|phase ?contrast|\bcow\b",
            "susceptibility": r"\bswi|\bswan|\bswip|venobold|suscept|\bqsm\b|t2 ?star|t2 ?\*|hemo\b",
            "spectroscopy": r"\bmrsi?\b|\bsvs\b|\bcsi\b|spectro",
        }.items()
    }
)

# Values of ImageType by kind (PS3.3 sections C.7.6.1.1.2, C.8.3.1.1.1, C.8.13.3.1.1, and what vendors add).
IMAGE_TYPES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(values.split("|"))
        for name, values in {
            "capture": "SCREEN SAVE|SCREENSHOT|SCREEN_SAVE",
            "mosaic": "MOSAIC",
            "mask": "MASK|ROI|SEGMENTATION|LABEL|LABELMAP|BINARY|CONTOUR|OVERLAY",
            "localizer": "LOCALIZER",
            "field map": "FIELD_MAP|FIELD MAP|FIELDMAP|B0 MAP|B0_MAP|B1|B1 MAP|B1_MAP|SHIM",
            "map": "ADC|EADC|FA|RA|VR|TENSOR|TENSOR_B0|EXPONENTIAL|TTEST|ZSCORE|CBF|RCBF|CBV|RCBV|MTT|RMTT"
            "|TTP|TMAX|PBP|GBP|KTRANS|VE|IAUC|UNI|RATIO|MTR|DIV|STDDEV|T2*|T2STAR|R2STAR|QSM|VELOCITY",
            "projection": "MIP|MINIP|MNIP|PROJECTION IMAGE|MAX_IP|MIN_IP|MIP_SW|VRT|RENDERED|CSA MIP"
            "|SUB|SUBTRACTION|SUBTRACT|SUBTRACTED",
            "diffusion": "DIFFUSION|DWI|TRACE|TRACEW|DIFF|DIFFUSION_ANISO",
            "perfusion": "PERFUSION|ASL|FMRI|BOLD|DYNAMIC_CONTRAST|TIME COURSE",
            "angiography": "ANGIO|TOF",
            "susceptibility": "SWI|SWAN|QSM",
        }.items()
    }
)

# Modality, where it is not MR or a word already.
MODALITIES: Mapping[str, str] = {
    "PT": "PET",
    "US": "ultrasound",
    "NM": "nuclear medicine",
    "SR": "structured report",
    "SEG": "segmentation",
    "PR": "presentation state",
    "KO": "key object selection",
    "RTSTRUCT": "RT structure set",
    "RTDOSE": "RT dose",
    "RTPLAN": "RT plan",
    "REG": "registration",
    "OT": "secondary capture",
    "SC": "secondary capture",
    "DOC": "document",
    "RWV": "real world values",
}

# Words for contrast medium; and for before or without it: alone, only with such a word, or behind it.
_AGENT = r"contrast\w*|kontras\w*|enh\w*|gd\w*|gad\w*|gbca|km|kl|ku|cm|ce|c|civ|kontrastmittel|inj\w*|mdc|con"
_WITHOUT = r"pre|ohne|without|w ?o|nativ\w*|avant|sans|senza|sem|bez|zonder|utan|uden|uten|ilman|przed|none"
_NOT = r"non?|un|vor|minus|sin|pr[aäé]|before|antes|prima|do|f[öøo]re?|för|not|n[aã]o|ingen|geen|[oö]ncesi|0"
_OF = r"(?: (?:de[li]?|d[aou]|l[aeo]|il|iv|av|med|el))*"
_NO_CONTRAST = re.compile(
    rf"\b(?:{_WITHOUT})\b{_OF}(?: (?:{_AGENT})\b)?|\b(?:{_WITHOUT}|{_NOT}){_OF} ?(?:{_AGENT})\b"
    rf"|\b(?:t1w?i?)?(?:{_AGENT}) ?(?:none|minus|neg\w*|0|[oö]ncesi)\b|kontrasts[iı]z\w*|contrastless"
    r"|\b(?:unenhanced|plain|prekm|pregad\w*|pregd|precontrast|noncontrast)\b|t1w?i? ?pre\b"
)
_CONTRAST = re.compile(
    r"\+ ?(c|gd|gad|km|ce|k|contrast|dotarem|kontrast)\b|\bc ?\+"
    r"|\b(gd|gad|gado\w*|gbca|gd ?dtpa|ce|cm|civ|km|k ?m|postgd|postgad|postcontrast|postkm|enh|enhanced)\b"
    r"|\binj(ection|ect[eé])?\b|\bmdc\b|\bp(ost|[oó]s)(?! ?(op|surg|rt\b|rad|tx|treat|chemo|proc))\b"
    r"|(?<!phase )(?<!transfer )contrast|\bt1\w*( \w+)? ku\b|\b(w|with|mit|po|s|z) (kl|ku|c|con)\b"
    r"|kontras|dotarem|gadovist|magnevist|multihance|prohance|omniscan|clariscan"
    r"|t1w?i?(c|ce|gd|gad|km|post)\b|\bce ?t1|\bt1w?i? ?c\b"
)
# "KM-" is without.
_MINUS = re.compile(rf"\b((?:t1w?i?)?(?:{_AGENT}))[-−](?=$|[\s_.)])", re.IGNORECASE)


def plain(text: str) -> str:
    """A description in lower case, all but letters, digits, ``+`` and ``*`` turned into blanks."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", " ", text)  # "T1Post"
    return " ".join(re.sub(r"[^\w+*]|_", " ", without_minus(spaced).lower()).split())


def without_minus(text: str) -> str:
    """The text with a word for the minus sign of ``KM-``, ``T1 C-``."""
    return _MINUS.sub(r"\1 none ", text.replace("_", " "))


@lru_cache(maxsize=1024)
def hints_of(text: str) -> frozenset[str]:
    """The names of `HINTS` found in a description."""
    words = plain(text)
    return frozenset(name for name, pattern in HINTS.items() if pattern.search(words))


@lru_cache(maxsize=1024)
def contrast_hint(text: str) -> bool | None:
    """Whether a description says after (True) or before contrast medium (False); else ``None``.

    A description that says both is ignored.
    """
    words = plain(text)
    before = bool(_NO_CONTRAST.search(words))
    after = bool(_CONTRAST.search(_NO_CONTRAST.sub(" ", words)))
    if after and before:
        return None
    return True if after else False if before else None


@lru_cache(maxsize=1024)
def named_sequence(text: str) -> str | None:
    """The only sequence that a description names: FLAIR, T1, T2, PD, STIR or DIR.

    T2 beside FLAIR is FLAIR; any other two say nothing.
    """
    names = hints_of(text) & {"FLAIR", "T1", "T2", "PD", "STIR", "DIR"}
    if "FLAIR" in names:
        names -= {"T2"}
    return next(iter(names)) if len(names) == 1 else None
