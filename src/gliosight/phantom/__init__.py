"""Synthetic studies with known truth: a head, its lesion, the pictures of both (phantom layer).

``scanner`` makes a `Phantom` from a `PhantomSpec`, with the tissues of ``anatomy``; ``files`` and ``dicom``
write it. ``pipeline`` never imports it.
"""

from gliosight.phantom.files import write_lgg, write_nifti
from gliosight.phantom.scanner import Phantom, PhantomSpec, make_phantom, rescan

__all__ = ["Phantom", "PhantomSpec", "make_phantom", "rescan", "write_lgg", "write_nifti"]
