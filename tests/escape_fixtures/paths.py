"""Paths that a recipe names: through links, dots and /proc out of the root, or out of the context."""

from __future__ import annotations

import os

from tests.escape_fixtures.case import Case, Group, Scene
from tests.escape_fixtures.place import Place
from tests.escape_fixtures.programs import loader

_FD_RANGE = range(3, 13)


def _linked(path: str, target: str) -> Scene:
    """Let the image have a symbolic link; a file `f` is in the context."""

    def scene(place: Place) -> None:
        place.link(f"{place.root}/{path}", place.fill(target))
        place.write("f", "mine")

    return scene


def _context(**links: str) -> Scene:
    """Let the context have symbolic links."""

    def scene(place: Place) -> None:
        for name, target in links.items():
            place.link(name, place.fill(target))
        place.write("f", "mine")

    return scene


def _stolen(*lines: str) -> tuple[str, ...]:
    return tuple(f"FROM base\n{line}\n" for line in lines)


def _loader_of_the_interpreter(place: Place) -> None:
    """Let the image's script have pybuild's own interpreter for its own, and a loader for that."""
    for directory in ("lib64", "lib"):
        for name in ("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"):
            place.write(f"{place.root}/{directory}/{name}", loader(), 0o755)
    place.write(f"{place.root}/script", "#!/proc/self/exe\n", 0o755)
    place.write(f"{place.root}/of-init", "#!/proc/1/exe\n", 0o755)


def _passwd(kind: str) -> Scene:
    def scene(place: Place) -> None:
        path = f"{place.root}/etc/passwd"
        os.unlink(path)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            os.mkdir(path)
        else:
            os.symlink(place.fill(kind), path)
        place.write("f", "mine")

    return scene


def _passwd_of(name: str, size: int) -> Scene:
    """Let a layer have an /etc/passwd that is a device, or large and empty."""

    def scene(place: Place) -> None:
        from tests.changeset_fixtures.tars import Raw, pax, tar

        if name == "device":
            layer = tar(Raw(b"etc/passwd", b"3", mode=b"0000644", device=(b"1", b"5")))
        else:
            records = (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")
            sizes = (*records, (b"GNU.sparse.realsize", b"%d" % size))
            layer = tar(pax(*sizes), Raw(b"etc/passwd", data=b"1\n0\n2\n".ljust(512, b"\0") + b"x\n"))
        place.layout(place.base_layer(), layer)

    return scene


PATHS = Group(
    "Paths in a recipe",
    (
        Case(
            "copy-to-absolute-link",
            "COPY to a directory that the image has as a symbolic link to a directory of the host",
            "the link is followed within the image; the file is there",
            _stolen("COPY f /out/f\nRUN test -f OUTSIDE/f"),
            _linked("out", "OUTSIDE"),
        ),
        Case(
            "copy-to-relative-link",
            "COPY through a link of many `..`",
            "`..` ends at the image's root",
            _stolen("COPY f /a/b/f\nRUN test -f OUTSIDE/f"),
            _linked("a/b", "../../../../../../../../../../../../..OUTSIDE"),
        ),
        Case(
            "copy-onto-file-link",
            "COPY onto a name that is a link to a file of the host",
            "the image gets that file; the host's is as it was",
            _stolen("COPY f /etc/x\nRUN test -f OUTSIDE/secret && test $(cat OUTSIDE/secret) = mine"),
            _linked("etc/x", "OUTSIDE/secret"),
        ),
        Case(
            "copy-document-onto-link",
            "COPY of a here-document onto such a link",
            "as with a file",
            ("FROM base\nCOPY <<EOF /etc/x\nmine\nEOF\nRUN test -f OUTSIDE/secret\n",),
            _linked("etc/x", "OUTSIDE/secret"),
        ),
        Case(
            "copy-link-chain",
            "COPY through links that lead to one another and out",
            "each is followed within the image",
            _stolen("COPY f /a/f\nRUN test -f OUTSIDE/f"),
            lambda place: (
                place.link(f"{place.root}/a", "b"),
                place.link(f"{place.root}/b", "/./c"),
                place.link(f"{place.root}/c", place.outside),
                place.write("f", "mine"),
                None,
            )[-1],
        ),
        Case(
            "copy-link-circle",
            "COPY to a link that leads to itself",
            "an error; nobody goes round for ever",
            _stolen("COPY f /a/f"),
            _linked("a", "a"),
            code="copy/links",
        ),
        Case(
            "copy-to-dots",
            "COPY and ADD to a path of `..`",
            "`..` ends at the image's root",
            _stolen(
                "COPY f ../../../../../../../../../..OUTSIDE/f\nRUN test -f OUTSIDE/f",
                "WORKDIR /a/b\nADD f ../../../../../../../../..OUTSIDE/\nRUN test -f OUTSIDE/f",
            ),
            _context(),
        ),
        Case(
            "copy-to-proc",
            "COPY to /proc/self/root, /proc/1/root, /proc/self/cwd and the host's directory below",
            "there is no /proc where COPY works: directories of those names, in the image",
            _stolen(
                "COPY f /proc/self/root/OUTSIDE/f",
                "COPY f /proc/1/root/OUTSIDE/f",
                "COPY f /proc/self/cwd/../outside/f",
            ),
            _context(),
        ),
        Case(
            "copy-to-proc-by-link",
            "the same, with a link in the image to lead there",
            "links to /proc are links like others",
            _stolen("COPY f /out/f\nRUN true"),
            _linked("out", "/proc/self/root/OUTSIDE"),
        ),
        Case(
            "copy-to-device-link",
            "COPY onto a link to /dev/mem, /dev/sda, /proc/sysrq-trigger",
            "files of those names in the image",
            _stolen("COPY f /a", "COPY f /b", "COPY f /c"),
            lambda place: (
                place.link(f"{place.root}/a", "/dev/mem"),
                place.link(f"{place.root}/b", "/dev/sda"),
                place.link(f"{place.root}/c", "/proc/sysrq-trigger"),
                place.write("f", "mine"),
                None,
            )[-1],
        ),
        Case(
            "copy-from-dots",
            "COPY of a file beside the context: `../outside/secret`, absolute, with /./ and --parents",
            "`..` ends at the context's root: there is no such file",
            _stolen(
                "COPY ../outside/secret /x",
                "COPY ../../../../../../..OUTSIDE/secret /x",
                "COPY OUTSIDE/secret /x",
                "COPY --parents ./../outside/./secret /x",
                "ADD a/../../outside/secret /x",
            ),
            code=("copy/missing",),
        ),
        Case(
            "copy-from-link",
            "COPY of a link in the context to a file of the host, named, below a linked directory, by a "
            "pattern",
            "links of the context end within it: there is no such file, and a pattern matches nothing",
            _stolen(
                "COPY link /x",
                "COPY relative /x",
                "COPY directory/secret /x",
                "COPY directory/s* /x",
                "ADD link /x",
                "COPY kernel/OUTSIDE/secret /x",
            ),
            _context(
                link="OUTSIDE/secret",
                relative="../outside/secret",
                directory="OUTSIDE",
                kernel="/proc/self/root",
            ),
            code=("copy/missing", ""),
        ),
        Case(
            "copy-directory-of-links",
            "COPY of a directory with links to the host, read in the next step",
            "they stay links, which lead to the image's own files",
            _stolen("COPY . /x\nRUN ! cat /x/link && ! ls /x/directory/secret && readlink /x/link"),
            _context(link="OUTSIDE/secret", directory="OUTSIDE"),
        ),
        Case(
            "copy-from-stage",
            "COPY --from of a link, and of `..`, in a stage",
            "both end within the stage",
            tuple(
                f"FROM base AS s\nRUN ln -s OUTSIDE/secret /l && ln -s /proc/self/root /p\nFROM "
                f"base\n{line}\n"
                for line in (
                    "COPY --from=s /l /x",
                    "COPY --from=s ../../../../../../..OUTSIDE/secret /x",
                    "COPY --from=s /p/OUTSIDE/secret /x",
                )
            ),
            code="copy/missing",
        ),
        Case(
            "copy-from-named-context",
            "COPY --from of a named context, with a link in it",
            "links end within the named context",
            _stolen("COPY --from=more link /x"),
            _context(**{"more/link": "OUTSIDE/secret"}),
            words=("--build-context", "more=more"),
            code="copy/missing",
        ),
        Case(
            "copy-special",
            "COPY of a device 0:0 (a whiteout to overlayfs), and of a fifo that nobody writes to",
            "the first is an error, the second is copied as one",
            _stolen("COPY white /x", "COPY fifo /x\nRUN test -p /x"),
            lambda place: (
                os.mknod(f"{place.context}/white", 0o020600, 0),
                os.mkfifo(f"{place.context}/fifo"),
                None,
            )[-1],
            code=("copy/device", ""),
        ),
        Case(
            "workdir-link",
            "WORKDIR at a link to a directory of the host; a step writes there",
            "the directory is made in the image",
            _stolen("WORKDIR /out/new\nRUN touch made && test -f OUTSIDE/new/made"),
            _linked("out", "OUTSIDE"),
        ),
        Case(
            "workdir-dots",
            "WORKDIR of `..`",
            "`..` ends at the image's root",
            _stolen("WORKDIR ../../../../../..OUTSIDE\nRUN touch made && test ! -e secret"),
        ),
        Case(
            "workdir-descriptor",
            "WORKDIR /proc/self/fd/N, for each N: a directory of the host that the builder has open "
            "(CVE-2024-21626)",
            "none is open by then, and no link of that kind is followed",
            _stolen(
                *(
                    f"WORKDIR /proc/self/fd/{fd}\nRUN --mount=type=cache,target=/m --mount=target=/n "
                    "ls -a; cat ../../../../../../../../../../../..OUTSIDE/secret"
                    for fd in _FD_RANGE
                )
            ),
            code="step/workdir",
        ),
        Case(
            "workdir-descriptor-link",
            "the same through a link in the image, and with a control group open",
            "the same",
            _stolen(
                *(
                    f"RUN ln -s /proc/self/fd/{fd} /w\nWORKDIR /w\nRUN --mount=target=/n "
                    "ls -a; cat ../../../../../../../../../../../..OUTSIDE/secret"
                    for fd in (5, 7, 9)
                )
            ),
            words=("--memory", "200m"),
            code=None,
        ),
        Case(
            "workdir-proc-root",
            "WORKDIR /proc/self/root, /proc/1/root, /proc/1/cwd",
            "an error: a process's own links are no path",
            _stolen(
                "WORKDIR /proc/self/root/OUTSIDE\nRUN cat secret",
                "WORKDIR /proc/1/root\nRUN cat .OUTSIDE/secret",
                "WORKDIR /proc/1/cwd\nRUN cat .OUTSIDE/secret",
            ),
            code="step/workdir",
        ),
        Case(
            "workdir-kernel",
            "WORKDIR in /proc/sys, /sys/fs/cgroup, /dev: directories made there",
            "an error where it is read-only, else in memory of the step's own",
            _stolen(
                "WORKDIR /proc/sys/escape\nRUN true",
                "WORKDIR /sys/fs/cgroup/escape\nRUN true",
                "WORKDIR /dev/escape\nRUN true",
            ),
            code=("step/workdir", ""),
        ),
        Case(
            "exec-own-program",
            "RUN of /proc/self/exe, /proc/1/exe, /proc/self/fd/N: the builder's own program (CVE-2019-5736)",
            "refused before it runs",
            _stolen(
                'RUN ["/proc/self/exe"]',
                'RUN ["/proc/1/exe"]',
                'RUN ["/proc/self/fd/7"]',
                'ENV PATH=/proc/self/root/bin:/proc/self\nRUN ["exe"]',
            ),
            _loader_of_the_interpreter,
            code=("step/not-executable", "step/not-found"),
        ),
        Case(
            "exec-own-program-by-script",
            "a script whose `#!` is /proc/self/exe, in an image whose dynamic loader is the attacker's "
            "(CVE-2019-5736)",
            "the builder's program is on a mount of its own, read-only and noexec: permission denied",
            _stolen('RUN ["/script"]', 'RUN ["/of-init"]'),
            _loader_of_the_interpreter,
            code=("step/not-executable",),
            says="permission denied",
        ),
        Case(
            "user-from-hosts-passwd",
            "USER of a name that only the host's file has, to which the image's /etc/passwd is a link",
            "the link ends in the image: no such user",
            _stolen("USER mole\nRUN id"),
            _passwd("OUTSIDE/passwd"),
            code="step/user",
        ),
        Case(
            "chown-from-hosts-passwd",
            "COPY --chown of such a name",
            "no such user",
            _stolen("COPY --chown=mole f /f"),
            _passwd("OUTSIDE/passwd"),
            code="step/user",
        ),
        Case(
            "user-passwd-of-init",
            "/etc/passwd as a link to /proc/kmsg, /proc/1/environ, /proc/self/mem, /dev/zero, "
            "/proc/self/fd/3",
            "nothing is read from there; no such user",
            _stolen(
                *(
                    f"RUN ln -sf {path} /etc/passwd\nUSER mole\nRUN id"
                    for path in (
                        "/proc/kmsg",
                        "/proc/1/environ",
                        "/proc/self/mem",
                        "/dev/zero",
                        "/dev/stdin",
                        "/proc/self/fd/3",
                    )
                )
            ),
            code="step/user",
        ),
        Case(
            "user-passwd-fifo",
            "/etc/passwd as a fifo that nobody writes to, and as a directory",
            "nobody waits; no such user",
            _stolen("USER app\nRUN id", "COPY --chown=app f /f"),
            _passwd("fifo"),
            code="step/user",
        ),
        Case(
            "user-passwd-device",
            "/etc/passwd as a device without end (/dev/zero), from a layer",
            "it is not opened",
            ("FROM oci-layout://PLACE/image\nUSER app\nRUN id\n",),
            _passwd_of("device", 0),
            code="step/user",
        ),
        Case(
            "user-passwd-huge",
            "/etc/passwd of 200 MB, all hole",
            "16 MiB of it are looked at",
            ("FROM oci-layout://PLACE/image\nUSER mole\nRUN id\n",),
            _passwd_of("sparse", 200 << 20),
            code="step/user",
        ),
    ),
)
