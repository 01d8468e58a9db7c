"""Recipes of tests/differential/cases, built by pybuild and by another builder, and the two images
compared.
"""
