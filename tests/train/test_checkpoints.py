"""A checkpoint is there whole or not at all, and no ctrl-C is lost on the way."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.train.checkpoints import WholeFiles  # noqa: E402


class InterruptAt:
    """Raises KeyboardInterrupt at the n-th line of Python that is run, but for those that pickle.

    Python's own copyreg discards whatever is raised at two of its lines, once in a process.
    """

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, *_: Any) -> Any:
        name = frame.f_code.co_filename
        self.left -= "torch" not in name and "copyreg" not in name
        if self.left == 0:
            raise KeyboardInterrupt
        return self

    def __enter__(self) -> None:
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


# One that comes between opening a file and being inside its "with" leaves the closing to Python.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_line_is_heard_and_leaves_a_whole_file(tmp_path: Path) -> None:
    writer, path = WholeFiles(), tmp_path / "last.ckpt"
    old, new = ({"steps": steps, "weights": torch.ones(3)} for steps in (1, 2))
    before = sys.gettrace()
    seen, kept = 0, set()
    try:
        for line in range(1, 10_000):
            writer.save_checkpoint(old, path)
            interrupt = InterruptAt(line)
            try:
                with interrupt:
                    writer.save_checkpoint(new, path)
            except KeyboardInterrupt:
                seen += 1
            if interrupt.left > 0:
                break
            kept.add(torch.load(path, weights_only=True)["steps"])
            assert list(tmp_path.iterdir()) == [path]
    finally:
        sys.settrace(before)
    assert seen == line - 1 > 10, "an interrupt was lost"
    assert kept == {1, 2}


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    writer, path = WholeFiles(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"steps": 1}, path)
    (tmp_path / "last.ckpt.part").mkdir()
    with pytest.raises(OSError, match=r"last\.ckpt\.part"):
        writer.save_checkpoint({"steps": 2}, path)
    assert torch.load(path, weights_only=True) == {"steps": 1}
