"""What an image consists of, shown: `pybuild view` as a page, `pybuild layers --tree` in a terminal."""
