"""Builds in a test's own directory, through the same session as the command line's."""
