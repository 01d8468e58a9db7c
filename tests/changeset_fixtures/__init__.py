"""Trees on the disk, made from plain values and read back into them, and a real overlay to see them
through.
"""
