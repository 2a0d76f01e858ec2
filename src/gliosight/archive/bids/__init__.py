"""A BIDS data set in, BIDS derivatives out (layer: archive).

`sessions` finds the sessions ``sub-*/[ses-*]`` and their files, `filters` says which of these are used, and
`derivatives` writes what was found.
"""
