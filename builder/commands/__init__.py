"""The commands beside the build: one module for each."""
