"""pybuild as a user who is not root runs it: tests/rootless_fixtures/user.py."""
