"""What the tests build rootless: a root file system with programs that change owners, modes and
capabilities.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile

PROGRAMS = ("setcap", "getcap")
EPOCH = "1700000000"

BASE = """\
FROM scratch AS base
COPY root/ /
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
"""

APP = f"""\
{BASE}
FROM base AS other
RUN mkdir /made; echo made > /made/file; chown 1000:1001 /made /made/file; ln /made/file /made/hard

FROM base
ADD owned.tar /owned/
ADD archive.txt /archive.txt
COPY --chown=app:app --chmod=640 file /etc/file
COPY --chown=4000:4001 tree/ /tree/
WORKDIR /srv/app
RUN mkdir a b c; echo 1 > a/one; echo 2 > a/two; ln a/one a/hard; ln -s one a/soft; mkfifo c/f; chown 5 c/f
RUN chown 1000:1001 a/one
RUN chown -h 1000:1001 a/soft; chgrp 100 b; cp /bin/busybox a/tool
RUN chmod 4755 a/tool; chmod 2750 b; chmod 1777 c; chown 1000:1001 /tree; chmod u+s,g+s a/two
RUN cp /bin/busybox a/ping; setcap cap_net_raw,cap_net_bind_service+ep a/ping; getcap a/ping
RUN rm a/two; rm -r c; mv a/one a/moved
RUN rm -r b; mkdir b; touch b/new; mkdir c; touch c/anew; rm -r /owned/deep; mkdir /owned/deep; >/owned/deep/x
COPY --from=other /made /copied
COPY --from=other --chown=7:8 /made/file /copied/again
USER app
WORKDIR /home/app/own
RUN id -u > /tmp/id; id -g >> /tmp/id; whoami >> /tmp/id
RUN touch /tmp/mine; mkdir /tmp/dir; ln -s mine /tmp/link; stat -c %u:%g /tmp/mine >> /tmp/id
USER 2000:2001
RUN --network=none touch /tmp/theirs
USER root
RUN --mount=type=cache,target=/cache touch /cache/kept && test ! -e /srv/app/c/f
RUN --mount=type=bind,from=other,source=/made,target=/mnt cp -p /mnt/file /mounted
RUN --mount=type=tmpfs,target=/scratch echo x > /scratch/x; rm /tmp/dir -r
TEST test -u /srv/app/a/tool && test -g /owned/setgid && test ! -e /srv/app/a/two
TEST test "$(ls /srv/app/c)" = anew
TEST getcap /srv/app/a/ping | grep -q cap_net_raw
CMD ["sh"]
"""
"""Everything that an upperdir can hold, in many layers."""

UNLINKED = APP.replace("RUN chown 1000:1001 a/one\n", "").replace("; mv a/one a/moved", "")
"""As APP, but nothing is done to one of two names of a file in a layer below."""


def write(directory: str) -> None:
    """Write the context of APP."""
    root = os.path.join(directory, "root")
    for name in ("bin", "etc", "tmp", "lib", "home/app"):
        os.makedirs(os.path.join(root, name))
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    os.chmod(os.path.join(root, "home/app"), 0o777)
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox-static is not on this machine (make test installs it)"
    shutil.copy(busybox, os.path.join(root, "bin/busybox"))
    found = {name: shutil.which(name, path="/sbin:/usr/sbin:/bin:/usr/bin") for name in PROGRAMS}
    assert all(found.values()), f"libcap2-bin is not on this machine (make test installs it): {found}"
    for name, path in found.items():
        shutil.copy(str(path), os.path.join(root, "bin", name))
    listing = subprocess.run(["ldd", *map(str, found.values())], check=True, capture_output=True, text=True)
    for library in sorted(set(re.findall(r"(/lib\S*?) \(", listing.stdout))):
        os.makedirs(os.path.dirname(root + library), exist_ok=True)
        shutil.copy(library, root + library)
    _text(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    _text(root, "etc/group", "root:x:0:\nusers:x:100:app\napp:x:1001:\n")
    _text(directory, "file", "a file\n")
    _text(directory, "archive.txt", "no archive\n")
    for number in range(3):
        _text(directory, f"tree/deep/{number}", f"{number}\n")
    _archive(os.path.join(directory, "owned.tar"))
    for path, names, files in os.walk(directory):
        for name in (*names, *files):
            os.utime(os.path.join(path, name), (1_600_000_000, 1_600_000_000), follow_symlinks=False)


def _text(directory: str, name: str, text: str) -> None:
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def _archive(path: str) -> None:
    """An archive with owners, links, modes, attributes and a capability."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, mode, owner, more in (
            ("deep", tarfile.DIRTYPE, 0o755, (0, 0), {}),
            ("deep/file", tarfile.REGTYPE, 0o644, (33, 33), {"data": b"data"}),
            ("deep/hard", tarfile.LNKTYPE, 0o644, (33, 33), {"to": "deep/file"}),
            ("soft", tarfile.SYMTYPE, 0o777, (33, 34), {"to": "deep/file"}),
            ("fifo", tarfile.FIFOTYPE, 0o600, (5, 6), {}),
            ("setgid", tarfile.REGTYPE, 0o2755, (0, 42), {"data": b"x"}),
            ("attributes", tarfile.REGTYPE, 0o644, (1000, 1001), {"user.note": "kept"}),
            ("large-ids", tarfile.REGTYPE, 0o644, (60_000, 60_001), {}),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, (entry.uid, entry.gid) = kind, mode, owner
            entry.mtime = 1_500_000_000
            data = more.get("data", b"")
            entry.size, entry.linkname = len(data), str(more.get("to", ""))
            entry.pax_headers = {
                f"SCHILY.xattr.{key}": str(value) for key, value in more.items() if "." in key
            }
            archive.addfile(entry, io.BytesIO(data))
