"""The data set: index, describe, show, audit, split, download (layer: data).

A *manifest* says which slices there are, a *split* which of them may be trained on. Everything else
of the training bench starts from these two files.
"""
