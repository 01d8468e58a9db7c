"""`pybuild copy`: images from one place to another, byte by byte as they are; one module for each kind of
place.
"""
