"""Many studies: each done once, gone on with after a stop, seen on one page, followed over time."""
