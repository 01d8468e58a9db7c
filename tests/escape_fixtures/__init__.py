"""Hostile recipes and images, each with what must not come of it; run by the real builder."""
