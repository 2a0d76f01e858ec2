"""DICOM: from files to a study (read stage).

Words: an *instance* is one file; a *frame* is one picture in it; a *series* is what one UID groups, split
further where it holds several stacks (echoes, times, orientations); a *stack* is parallel frames, one for
each position, ordered along their normal. Every header is read once, by `instances`; nothing behind it
opens a file again but for the pixels of the frames that were chosen.

``files`` → ``instances`` headers → ``acquisition`` frames → ``grouping`` of instances to series →
``split`` into stacks, in ``order`` → ``series``; ``rules`` say what they show → ``choose`` FLAIR, T1 and
T1C → ``study``.
"""
