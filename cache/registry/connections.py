"""Connections that another thread can cut: whoever waits for an answer learns at once that none will come."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool


class OpenSockets:
    """The sockets of all connections that are open. Safe to use from several threads."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cut = False
        self._lock = threading.Lock()

    def add(self, found: socket.socket | None) -> None:
        """Note a socket; it is cut at once if all are."""
        with self._lock:
            if found is not None:
                self._sockets.add(found)
                if self._cut:
                    _shut(found)

    def cut(self) -> None:
        """End the connections that are open, and those that are still to come."""
        with self._lock:
            self._cut = True
            for each in list(self._sockets):
                _shut(each)

    def pools(self) -> dict[str, type[HTTPConnectionPool]]:
        """Return pools for urllib3's PoolManager (`pool_classes_by_scheme`) whose sockets are noted here."""
        from urllib3 import connection, connectionpool

        note = self.add

        class Plain(connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                note(self.sock)

        class Secure(connection.HTTPSConnection):
            during: socket.socket | None = None

            def _new_conn(self) -> socket.socket:
                found = super()._new_conn()
                # ssl gives its socket out when hands are shaken; until then a second descriptor can be cut.
                self.during = found.dup()
                note(self.during)
                return found

            def connect(self) -> None:
                try:
                    super().connect()
                    note(self.sock)
                finally:
                    if self.during is not None:
                        self.during.close()

        class PlainPool(connectionpool.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(connectionpool.HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


def _shut(found: socket.socket) -> None:
    """Of the socket itself: ssl's own shutdown takes the session from under the thread that reads."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(found, socket.SHUT_RDWR)
