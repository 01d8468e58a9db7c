"""Print the completion script for a shell.

bash: source <(pybuild completion bash)
zsh:  source <(pybuild completion zsh)
fish: pybuild completion fish | source
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line of `completion` may hold."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def run(arguments: argparse.Namespace) -> int:
    """Print the script; return the exit code."""
    import sys

    from builder.cli import parser
    from builder.completion import script

    sys.stdout.write(script(arguments.shell, parser()))
    return 0
