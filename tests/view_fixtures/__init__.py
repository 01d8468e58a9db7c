"""A browser for the pages that `pybuild view` makes."""
