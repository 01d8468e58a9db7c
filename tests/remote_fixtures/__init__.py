"""Servers on loopback for what is fetched: files over HTTP, git repositories."""
