"""Networks of the training bench, each readable in one sitting."""
