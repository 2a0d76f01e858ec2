"""Which sequence an acquisition is, by a table of rules (read stage, DICOM).

In: an `Acquisition`. Out: `Identified`: FLAIR, T1, T1C or what else it is, whether it may be analysed as an
image at all, which rule decided, and on which values. The rules are data: the first one that matches decides.
What must never be analysed comes first (a word of the description may say so, but for FLAIR's own physics),
then the sequences by their physics (TR, TE, TI, flip angle, kind of
pulse: PS3.3 sections C.8.3.1 and C.8.13.5), and only where timing was stripped from the header the
description, which then is a guess. Where physics and description contradict each other, physics decides and
``why`` says so.

The tables are in `unusable` and `sequences`, what they ask in `matching`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gliosight.errors import printable
from gliosight.read.dicom import matching as of
from gliosight.read.dicom.acquisition import Acquisition
from gliosight.read.dicom.rule import Confidence, ContrastRule, Rule
from gliosight.read.dicom.sequences import CONTRAST_RULES, SEQUENCES
from gliosight.read.dicom.unusable import UNUSABLE
from gliosight.study import Sequence

RULES: tuple[Rule, ...] = (*UNUSABLE, *SEQUENCES)
AFTER_CONTRAST = "T1 after contrast"
PROCESSED = "derived-without-timing"


@dataclass(frozen=True)
class Identified:
    """What a stack of frames shows.

    Parameters
    ----------
    sequence : Sequence or None
        ``None`` for everything that is not FLAIR, T1 or T1C.
    kind : str
        In words, such as ``"T1 after contrast"``, ``"derived map"``.
    usable : bool
        Whether it may be analysed as an image at all.
    rule : str
        The name of the rule that decided.
    why : str
        One plain clause with the values found.
    confidence : {"certain", "likely", "guess"}
    contrast : bool or None
        Of a T1 or FLAIR: whether it was acquired after contrast medium; ``None`` where nothing says so.
    but_for_a_word : Sequence or None
        What it would be if its description did not exclude it: nothing else does, and a user may know better.
    """

    sequence: Sequence | None
    kind: str
    usable: bool
    rule: str
    why: str
    confidence: Confidence
    contrast: bool | None = None
    but_for_a_word: Sequence | None = None

    @property
    def nameable(self) -> bool:
        """Whether it may be analysed if the user says what it is."""
        # Defaced and otherwise processed images lose their timing; masks are told by their pixels.
        return self.usable or self.but_for_a_word is not None or self.rule == PROCESSED


_RANK: tuple[Confidence, ...] = ("certain", "likely", "guess")


def identify(acquisition: Acquisition) -> Identified:
    """What the first matching rule says; never raises.

    Parameters
    ----------
    acquisition : Acquisition

    Returns
    -------
    Identified
        Derived images that are usable are ``likely`` at best: an original goes before them.
    """
    rule = _rule_of(acquisition)
    words = of.words_for(acquisition)
    kind = rule.kind.format_map(words)
    why = rule.why.format_map({**words, "kind": kind})
    confidence = rule.confidence
    if acquisition.derived and rule.usable:
        confidence = _weaker(confidence, "likely")
        why += ", derived from other images"
    sequence, contrast, name, otherwise = rule.sequence, None, rule.name, None
    if not rule.usable:
        otherwise = _rule_of(replace(acquisition, description="")).sequence
        confidence = confidence if otherwise is None else "likely"
    elif excluding := acquisition.hints & of.NEVER_NULL_FLUID:
        # Of FLAIR's physics alone: see `matching.hints`.
        why += f"; the description says {' and '.join(sorted(excluding))}, which these values contradict"
        confidence = _weaker(confidence, "likely")
    if (
        rule.usable
        and (said := acquisition.said) not in (None, rule.kind)
        and rule.kind != "unknown"
    ):
        why += f"; the description says {said}, which these values contradict"
    if sequence is Sequence.FLAIR:
        added = _contrast_rule(acquisition)
        contrast = added.contrast
        why += f"; {added.why}" if contrast else ""
    if sequence is Sequence.T1:
        added = _contrast_rule(acquisition)
        contrast = added.contrast
        why += f"; {added.why}"
        confidence = _weaker(confidence, added.confidence)
        if contrast:
            sequence, kind = Sequence.T1C, AFTER_CONTRAST
            name += f" + {added.name}"
    return Identified(
        sequence,
        printable(kind),
        rule.usable,
        name,
        printable(why),
        confidence,
        contrast,
        otherwise,
    )


def _rule_of(acquisition: Acquisition) -> Rule:
    return next(one for one in RULES if one.test(acquisition))


def _contrast_rule(acquisition: Acquisition) -> ContrastRule:
    found = (acquisition.contrast, acquisition.said_contrast)
    return next(one for one in CONTRAST_RULES if (one.fields, one.said) == found)


def _weaker(one: Confidence, other: Confidence) -> Confidence:
    return max(one, other, key=_RANK.index)
