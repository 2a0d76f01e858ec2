"""An analysis as files (stage: write). One module per kind of output; `staging` makes them appear at once."""
