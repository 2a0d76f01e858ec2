"""The rules that tell one sequence from another (read stage, DICOM, a table of `rules`).

In: conditions of `matching`. Out: `SEQUENCES`, tried after what is never analysed, and `CONTRAST_RULES`,
which tell a T1 after contrast medium from one before. Headers stripped of their timing come first, since only
the description is left there; then inversion recovery, gradient echo, spin echo.
"""

from __future__ import annotations

from gliosight.read.dicom import matching as of
from gliosight.read.dicom.rule import Confidence, ContrastRule, Rule
from gliosight.study import Sequence


def _other(
    name: str,
    kind: str,
    test: of.Condition,
    why: str = "{values}",
    confidence: Confidence = "certain",
) -> Rule:
    """A rule for an image of another sequence."""
    return Rule(name, kind, None, True, test, confidence, why)


_BY_WORD = "no TR, TE or TI; the description says {said}"

SEQUENCES: tuple[Rule, ...] = (
    # Stripped headers: the description alone.
    Rule("flair-word", "FLAIR", Sequence.FLAIR, True, of.stripped("FLAIR"), "guess", _BY_WORD),
    Rule("t1-word", "T1", Sequence.T1, True, of.stripped("T1"), "guess", _BY_WORD),
    _other("t2-word", "T2", of.stripped("T2"), _BY_WORD, "guess"),
    _other("pd-word", "PD", of.stripped("PD"), _BY_WORD, "guess"),
    _other(
        "unknown",
        "unknown",
        of.without("timed"),
        "neither TR, TE, TI nor a description that says one sequence",
        "guess",
    ),
    # Inversion recovery.
    _other("double-inversion", "DIR", of.any_of(of.hints("DIR"), of.within("inversions", 2))),
    _other("psir", "PSIR", of.hints("PSIR")),
    _other(
        "stir",
        "STIR",
        of.all_of(of.INVERTED, of.within("inversion", 80, 300), of.no(of.GRADIENT_PREPARED)),
    ),
    Rule(
        "t1-prepared-gradient-echo",
        "T1",
        Sequence.T1,
        True,
        of.all_of(
            of.INVERTED, of.within("inversion", 250, 1500), of.within("echo", 0, 10), of.no(of.SPIN)
        ),
        "certain",
        "{values}",
    ),
    Rule(
        "t1-flair",
        "T1",
        Sequence.T1,
        True,
        of.all_of(of.INVERTED, of.within("inversion", 400, 1300), of.within("echo", 0, 45)),
        "certain",
        "inversion for T1, not for fluid: {values}",
    ),
    Rule(
        "flair",
        "FLAIR",
        Sequence.FLAIR,
        True,
        of.all_of(of.INVERTED, of.FLUID_TIMES, of.nulls_fluid(0.65, 1.2)),
        "certain",
        "{values}",
    ),
    Rule(
        "flair-unusual",
        "FLAIR",
        Sequence.FLAIR,
        True,
        of.all_of(of.INVERTED, of.FLUID_TIMES, of.says("FLAIR")),
        "likely",
        "{values}; the inversion time is unusual for nulling fluid, the description says FLAIR",
    ),
    Rule(
        "flair-incomplete",
        "FLAIR",
        Sequence.FLAIR,
        True,
        of.all_of(
            of.INVERTED,
            of.within("inversion", *of.FLUID_TI),
            of.perhaps("repetition", *of.FLUID_TR),
            of.perhaps("echo", *of.FLUID_TE),
            of.any_of(of.lacks("repetition"), of.lacks("echo")),
        ),
        "likely",
        "{values}, the rest is absent",
    ),
    Rule(
        "flair-without-ti",
        "FLAIR",
        Sequence.FLAIR,
        True,
        of.all_of(
            of.MAYBE_INVERTED,
            of.lacks("inversion"),
            of.says("FLAIR"),
            of.within("repetition", *of.FLUID_TR),
            of.within("echo", *of.FLUID_TE),
        ),
        "likely",
        "{values}, no TI; the description says FLAIR",
    ),
    Rule(
        "flair-by-times",
        "FLAIR",
        Sequence.FLAIR,
        True,
        of.all_of(
            of.INVERTED,
            of.lacks("inversion"),
            of.within("repetition", 6000, 2e4),
            of.within("echo", 80, 700),
            of.says(None, "T2"),
        ),
        "guess",
        "{values}, no TI",
    ),
    _other("inversion-recovery", "other inversion recovery", of.INVERTED),
    # Gradient echo.
    _other(
        "steady-state",
        "steady-state gradient echo",
        of.any_of(of.coded("variant", "BALANCED"), of.hints("SSFP")),
    ),
    _other(
        "susceptibility",
        "T2*",
        of.all_of(
            of.no(of.SPIN),
            of.any_of(of.hints("susceptibility"), of.image_type("SWI", "SWAN", "QSM")),
        ),
        "made for susceptibility, {values}",
    ),
    _other("t2-star", "T2*", of.all_of(of.GRADIENT, of.within("echo", 12))),
    Rule(
        "t1-gradient-echo",
        "T1",
        Sequence.T1,
        True,
        of.all_of(
            of.GRADIENT,
            of.within("repetition", 2, 60),
            of.within("echo", 0, 15),
            of.within("flip", 8, 90),
            of.any_of(of.coded("variant", "SP", "MP"), of.says("T1")),
        ),
        "certain",
        "{values}",
    ),
    Rule(
        "t1-prepared-by-variant",
        "T1",
        Sequence.T1,
        True,
        of.all_of(
            of.GRADIENT,
            of.coded("variant", "MP"),
            of.within("repetition", 1200, 3500),
            of.within("echo", 0, 6),
            of.says("T1"),
        ),
        "likely",
        "{values}, no TI",
    ),
    Rule(
        "t1-small-flip",
        "T1",
        Sequence.T1,
        True,
        of.all_of(
            of.GRADIENT,
            of.within("repetition", 2, 60),
            of.within("echo", 0, 10),
            of.within("flip", 4, 8),
            of.says("T1"),
        ),
        "likely",
        "{values}; the description says T1",
    ),
    Rule(
        "t1-gradient-echo-2d",
        "T1",
        Sequence.T1,
        True,
        of.all_of(
            of.GRADIENT,
            of.within("repetition", 60, 700),
            of.within("echo", 0, 8),
            of.within("flip", 40, 120),
            of.says(None, "T1"),
        ),
        "likely",
        "{values}",
    ),
    _other("gradient-echo", "gradient echo", of.GRADIENT),
    # Spin echo, and headers that do not say how the echo was made.
    Rule(
        "t1-spin-echo",
        "T1",
        Sequence.T1,
        True,
        of.all_of(of.SPIN, of.within("repetition", 200, 1100), of.within("echo", 0, 40)),
        "certain",
        "{values}",
    ),
    Rule(
        "t1-by-times",
        "T1",
        Sequence.T1,
        True,
        of.all_of(
            of.no(of.SPIN),
            of.any_of(
                of.all_of(of.within("repetition", 200, 1100), of.within("echo", 0, 40)),
                of.all_of(of.within("repetition", 2, 60), of.within("echo", 0, 10)),
            ),
            of.says("T1"),
        ),
        "likely",
        "{values}; the description says T1",
    ),
    _other("t2", "T2", of.all_of(of.within("echo", 50), of.perhaps("repetition", 1100))),
    _other("pd", "PD", of.all_of(of.within("repetition", 1100), of.within("echo", 0, 50))),
    _other("other", "other MR", lambda _: True, "{values}", "guess"),
)

CONTRAST_RULES: tuple[ContrastRule, ...] = (
    ContrastRule(
        "contrast-against-word",
        True,
        False,
        True,
        "likely",
        "contrast medium in the header, although the description says before",
    ),
    ContrastRule("contrast-given", True, True, True, "certain", "contrast medium in the header"),
    ContrastRule("contrast-given", True, None, True, "certain", "contrast medium in the header"),
    ContrastRule(
        "no-contrast-against-word",
        False,
        True,
        True,
        "guess",
        "the description says after contrast, although the header says none was given",
    ),
    ContrastRule("no-contrast", False, False, False, "certain", "no contrast medium"),
    ContrastRule("no-contrast", False, None, False, "certain", "no contrast medium"),
    ContrastRule(
        "contrast-word", None, True, True, "likely", "the description says after contrast"
    ),
    ContrastRule(
        "no-contrast-word", None, False, False, "likely", "the description says before contrast"
    ),
    ContrastRule("contrast-unknown", None, None, None, "certain", "contrast medium not stated"),
)
