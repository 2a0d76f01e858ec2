"""An analysis as files (stage: write). One module for each kind of output."""
