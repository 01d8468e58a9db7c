"""The base image of the comparisons: a shell, a few programs and their libraries, of this machine's own
files.

Small on purpose, and without network: the size of a base that all builders hold already is in no time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile

PROGRAMS = {
    "/bin/dash": "bin/sh",
    "/bin/cat": "bin/cat",
    "/bin/dd": "bin/dd",
    "/bin/mkdir": "bin/mkdir",
    "/bin/sleep": "bin/sleep",
}
"""Where each program is on this machine, and where it goes."""


def make(tar_path: str) -> None:
    """Write the root file system as an uncompressed tar to `tar_path`."""
    files = dict(PROGRAMS)
    for program in PROGRAMS:
        listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        files.update({library: library[1:] for library in re.findall(r"(/lib\S*)", listing)})
    with tarfile.open(tar_path, "w") as tar:
        for directory in ("bin", "etc", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for source, target in sorted(files.items()):
            entry = tarfile.TarInfo(target)
            entry.size, entry.mode = os.stat(source).st_size, 0o755
            with open(source, "rb") as file:
                tar.addfile(entry, file)


def as_oci_archive(tar_path: str, archive: str, name: str) -> None:
    """Make an OCI archive of one layer, named `name`, of the tar `tar_path`, with umoci and skopeo."""
    layout = archive + ".layout"
    for command in (
        ["umoci", "init", "--layout", layout],
        ["umoci", "new", "--image", f"{layout}:{name}"],
        ["umoci", "raw", "add-layer", "--image", f"{layout}:{name}", tar_path],
        ["umoci", "config", "--image", f"{layout}:{name}", "--config.env", "PATH=/bin"],
        ["skopeo", "copy", "--quiet", f"oci:{layout}:{name}", f"oci-archive:{archive}:{name}"],
    ):
        subprocess.run(command, check=True)
    shutil.rmtree(layout)
