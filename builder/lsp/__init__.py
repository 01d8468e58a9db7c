"""The language server: what an editor asks about a recipe, as pure functions of its text (`server.py` alone
speaks the protocol)."""
