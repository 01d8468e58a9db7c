"""Repositories of tiny packages."""
