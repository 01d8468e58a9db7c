"""Builds that never happened, told to displays, and a terminal to look at."""
