"""``gliosight`` and ``python -m gliosight`` (layer: cli).

From the first moment on a request to end is answered in one line: while modules are imported there is nothing
to clear away, and an exception might get lost in them.
"""

from __future__ import annotations

import os
import signal


def _end(*_: object) -> None:
    try:
        os.write(2, b"interrupted; nothing half-written was left\n")
    finally:
        os._exit(130)


def main() -> None:
    """Run the command line."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from gliosight.cli import main as run

    run(importing=_end)


if __name__ == "__main__":
    main()
