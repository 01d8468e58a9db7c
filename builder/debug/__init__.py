"""Looking into a build: the state before any line, and that of a step that failed."""
