"""Run an image's service, ask it one thing, print the answer, stop it: `ask.py PYBUILD IMAGE PATH`.

The service gets PORT=0, so that the kernel picks a port that is free, and says which in its first line.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request


def main(pybuild: str, image: str, path: str) -> int:
    """Return the exit code."""
    command = [pybuild, "run", "--rm", "-e", "PORT=0", image]
    print("$", *command, flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            line = service.stdout.readline()
            port = re.search(r"port (\d+)", line)
            if port is None:
                print(f"{image} does not say on which port it listens: {line!r}", file=sys.stderr)
                return 1
            print(line, end="")
            url = f"http://127.0.0.1:{port[1]}{path}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                print(f"$ curl '{url}'\n{answer.read().decode()}")
        finally:
            service.send_signal(signal.SIGTERM)
    print(f"{image} runs, answers, and has stopped again (exit code {service.returncode}).")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
