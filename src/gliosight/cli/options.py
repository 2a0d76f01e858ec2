"""Options that several commands share (layer: cli)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gliosight.analysis import PREVALENCE_WORDS, PREVALENCES
from gliosight.archive.workers import MOST_WORKERS
from gliosight.infer.engine import CPU, DEFAULT_ENGINE, DEVICES, ENGINE_CHOICES
from gliosight.infer.model import DEFAULT_MODEL
from gliosight.infer.precision import AUTO, PRECISIONS
from gliosight.read.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from gliosight.pipeline import Settings

MIB = 1024**2

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Path(click.Path):
    """A path that is not empty: pathlib would take that for the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class _Prevalence(click.types.FloatParamType):
    """A share of studies with tumour."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        share = super().convert(value, param, ctx)
        if not PREVALENCES[0] <= share <= PREVALENCES[1]:  # NaN neither
            self.fail(f"{share} is not {PREVALENCE_WORDS}", param, ctx)
        return share


# Whether a path can be read is said by what reads it, with the right code.
PATH = _Path(path_type=Path, readable=False)


def _together(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    def apply(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def _gathered(
    name: str, make: Callable[..., Any], **options: Callable[[Any], Any]
) -> Callable[[_Command], Callable[..., Any]]:
    """Options by their parameters; the command gets what ``make`` makes of all of them, as ``name``."""

    def apply(command: _Command) -> Callable[..., Any]:
        @functools.wraps(command)
        def call(**values: Any) -> Any:
            own = {key: values.pop(key) for key in options}
            return command(**values, **{name: make(**own)})

        return _together(*options.values())(call)

    return apply


def _settings(**values: Any) -> Settings:
    from gliosight.pipeline import Settings  # inspect does without it

    return Settings(**values)


_ENGINE = {
    "engine": click.option(
        "--engine",
        type=click.Choice(ENGINE_CHOICES),
        default=DEFAULT_ENGINE,
        show_default=True,
        help="Inference engine; auto: openvino where it is installed.",
    ),
    "precision": click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=AUTO,
        show_default=True,
        help="Number format of the network; auto: the fastest on this processor, of those in which the "
        "model was checked.",
    ),
    "device": click.option(
        "--device",
        type=click.Choice(DEVICES),
        default=CPU,
        show_default=True,
        help="What computes the network. gpu needs a build of the engine for it, and computes in float32.",
    ),
    "threads": click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        help="Threads of the engine.  [default: the engine chooses]",
    ),
}

engine_options = _gathered("settings", _settings, **_ENGINE)

_MODEL = {
    "model": click.option(
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        metavar="NAME|PATH",
        help="A shipped model (see: gliosight models), or the path of a model's card.",
    ),
    **_ENGINE,
    "prevalence": click.option(
        "--prevalence",
        type=_Prevalence(),
        metavar="P",
        help="Share of studies with tumour in the collection that yours come from, such as 0.1. The "
        "probability of tumour, the verdict and the mask are computed for this share.  "
        "[default: the share in the studies that the model was fitted on]",
    ),
}

model_options = _gathered("settings", _settings, **_MODEL)


def _limits(max_decoded: int, max_members: int, max_ratio: float) -> Limits:
    """The limits that the options name."""
    return Limits(decoded_bytes=max_decoded * MIB, members=max_members, ratio=max_ratio)


def _limit_options(members: int) -> Callable[[_Command], Callable[..., Any]]:
    """The limits, with a default for the number of files."""
    return _gathered(
        "limits",
        _limits,
        max_decoded=click.option(
            "--max-decoded",
            type=click.IntRange(1),
            default=DEFAULT_LIMITS.decoded_bytes // MIB,
            show_default=True,
            metavar="MIB",
            help="Largest size of the decoded input.",
        ),
        max_members=click.option(
            "--max-members",
            type=click.IntRange(1),
            default=members,
            show_default=True,
            help="Largest number of files below a path, and of pages in a file.",
        ),
        max_ratio=click.option(
            "--max-ratio",
            type=click.FloatRange(1),
            default=DEFAULT_LIMITS.ratio,
            show_default=True,
            help="Largest ratio of decompressed to compressed size.",
        ),
    )


limit_options = _limit_options(DEFAULT_LIMITS.members)
# A study has up to hundreds of files.
archive_limit_options = _limit_options(50 * DEFAULT_LIMITS.members)


def workers_option(*names: str, what: str, cluster: bool = False) -> Callable[[_Command], _Command]:
    """How many processes analyse ``what``, on this machine or in a cluster."""
    more = "; with --ray one for each core of the cluster" if cluster else ""
    return click.option(
        *names,
        "workers",
        type=click.IntRange(1, 256),
        help=f"Processes that analyse {what}, 300 to 900 MB of memory each.  [default: one for each core, at "
        f"most {MOST_WORKERS}{more}]",
    )


def timeout_option(what: str) -> Callable[[_Command], _Command]:
    """The longest that one of many may take."""
    return click.option(
        "--timeout",
        type=click.FloatRange(0, min_open=True),
        default=1800.0,
        show_default=True,
        metavar="SECONDS",
        help=f"The longest that a {what} may take; then it counts as failed.",
    )


def retry_option(what: str) -> Callable[[_Command], _Command]:
    """Whether failures of earlier runs are tried again."""
    return click.option(
        "--retry-failed", is_flag=True, help=f"Analyse {what} again that failed before."
    )


class _RayAddress(click.types.StringParamType):
    """Where a Ray cluster is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        form = r"local|auto|(ray://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):[0-9]{1,5}"
        if not re.fullmatch(form, value):
            self.fail(f"{value!r} is not local, auto or HOST:PORT", param, ctx)
        return value


ray_option = click.option(
    "--ray",
    type=_RayAddress(),
    metavar="ADDRESS|local",
    help="Use the workers of a Ray cluster, such as auto or 10.0.0.1:6379; local starts one on this machine "
    "(extra: scale).",
)

output_options = _together(
    click.option("--overwrite", is_flag=True, help="Replace an earlier result at OUT."),
    click.option("--probability", is_flag=True, help="Write the probability map, too."),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the content of result.json, and the folder, instead of text.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
)
