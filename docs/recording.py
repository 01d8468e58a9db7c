"""Make docs/progress.svg: what a terminal shows while recipes/java.rec is built, and what is left of it
afterwards.

Builds into a store of its own in a real terminal (tmux), looks at it every half second, and keeps the picture
in which the most is under way, with the last one below it. Run by `make recording`; needs root, tmux and
pybuild's environment.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 100, 34
RECIPE = "recipes/java.rec"


def main() -> int:
    """Record a build of the recipe with the options given; return the exit code."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory(prefix="recording-") as directory:
        socket = directory + "/tmux"
        build = [sys.executable, "-m", "builder.main", RECIPE, "-t", "notes:1.0", *sys.argv[1:]]
        environment = [f"PYBUILD_ROOT={directory}/store", f"PYTHONPATH={top}", "PYTHONDONTWRITEBYTECODE=1"]
        command = f"clear; {shlex.join(['env', '-u', 'CI', *environment, *build])}; echo ended; exec sleep 60"
        start = ["new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-c", top, "bash", "-c", command]
        tmux(socket, "-f", "/dev/null", *start)
        busiest, last = watch(socket)
        tmux(socket, "kill-server")
    draw(f"$ pybuild {RECIPE} -t notes:1.0", busiest, last, os.path.join(top, "docs", "progress.svg"))
    return 0


def watch(socket: str) -> tuple[str, str]:
    """Return the pane when a step's output was running in it longest, and the pane at the end."""
    busiest, most = "", -1
    while True:
        pane = tmux(socket, "capture-pane", "-e", "-p")
        lines = [line for line in Text.from_ansi(pane).plain.split("\n") if line.strip()]
        if "ended" in lines:
            return busiest, pane.replace("ended", "")
        running = sum(line.startswith("   ") for line in lines)
        if running >= most and len(lines) > 6:
            busiest, most = pane, running
        time.sleep(0.5)


def tmux(socket: str, *arguments: str) -> str:
    """Run one command of tmux; return what it prints."""
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["tmux", "-S", socket, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout


def draw(title: str, busiest: str, last: str, path: str) -> None:
    """Write both pictures, one below the other, as an SVG."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text(title, style="bold"))
        console.print(Text.from_ansi(busiest.rstrip("\n")))
        console.print(Text("… some seconds later", style="dim italic"))
        console.print(Text.from_ansi(last.rstrip("\n").rstrip()))
        console.save_svg(path, title="pybuild")


if __name__ == "__main__":
    sys.exit(main())
