"""The pipelines of docs/ci, as scripts and what is in their environment: tests/ci_fixtures/pipelines.py."""
