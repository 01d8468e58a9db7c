"""Observers of build events: terminal (rich), plain text, JSON lines."""
