"""Synthetic studies with known truth: a head, its lesion, the pictures of both (phantom layer).

In: a `PhantomSpec`. Out: a `Phantom` with the sequences, the true mask and the geometry, as a
`Study` or as files. It stands beside ``pipeline``, which it neither needs nor knows: what analyses
a phantom never has access to it.

``spec`` says what is wanted, ``anatomy`` where tissue is (by the smooth functions of ``fields``),
``signal`` how bright it is, ``studies`` puts scanner and study around it, ``files`` writes them
down.
"""

from gliosight.phantom.files import write_lgg, write_nifti
from gliosight.phantom.spec import PhantomSpec
from gliosight.phantom.studies import Phantom, make_phantom

__all__ = ["Phantom", "PhantomSpec", "make_phantom", "write_lgg", "write_nifti"]
