"""pybuild on a real terminal."""
