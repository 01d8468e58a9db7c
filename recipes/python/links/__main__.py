"""`python -m links`: serve on $PORT (8000 unless set; 0 lets the kernel pick), links in $LINKS_DB."""

from __future__ import annotations

import os
import signal
import sys

from waitress.server import create_server

from links.app import application
from links.store import Links


def main() -> None:
    # As process 1 of a container Python would ignore SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = application(Links(os.environ.get("LINKS_DB", "links.db")))
    server = create_server(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8000")), threads=4)
    print(f"links: listening on port {server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
