"""RUN --mount: targets over what the sandbox needs, sources and ids that lead out."""

from __future__ import annotations

import os

from tests.escape_fixtures.case import Case, Group
from tests.escape_fixtures.place import Place


def _run(*lines: str) -> tuple[str, ...]:
    return tuple(f"FROM base\n{line}\n" for line in lines)


def _links(place: Place) -> None:
    place.link("link", f"{place.outside}/secret")
    place.link("directory", place.outside)
    place.link("kernel", "/proc/self/root" + place.outside)
    place.write("f", "mine")
    place.link(f"{place.root}/out", place.outside)
    place.link(f"{place.root}/process", "/proc/self/root")


def _cache_link(mount: str) -> str:
    """Return a recipe whose first step leaves links in a cache, and whose second one mounts it."""
    return (
        "FROM base\nRUN --mount=type=cache,id=c,target=/c ln -s OUTSIDE /c/d; ln -s OUTSIDE/secret /c/s; "
        f"ln -s /proc/self/root /c/p; true\nRUN {mount} ls -la /; cat /x /x/secret /c/d/secret /c/s; true\n"
    )


MOUNTS = Group(
    "Mounts of a step",
    (
        Case(
            "mount-over-kernel",
            "a tmpfs, a cache or the context over /proc, /sys, /proc/sys, /dev/pts",
            "it covers them for that step; the host's are not touched",
            _run(
                *(
                    f"RUN --mount={kind},target={target} true"
                    for kind in ("type=tmpfs", "type=cache", "type=bind")
                    for target in ("/proc/sys", "/dev/pts")
                ),
                *(f"RUN --mount=type=tmpfs,target={target} true" for target in ("/proc", "/sys")),
            ),
            code=None,
        ),
        Case(
            "mount-over-null",
            "the context over /dev, where `null` is a link to /proc/self/mem, /proc/1/mem, /proc/self/root: "
            "what the "
            "init of the step, which has every right, opens as standard input",
            "an error: links are not followed there, and nothing but the device is taken",
            _run(
                *(
                    f"RUN --mount=type=bind,source={name},target=/dev ls -l /proc/self/fd; "
                    "case $(readlink /proc/self/fd/0) in /dev/null) ;; *) echo ESCA''PED: $(readlink "
                    "/proc/self/fd/0);; esac"
                    for name in ("memory", "init", "root", "file", "fifo", "console")
                ),
                "RUN --mount=type=tmpfs,target=/dev true",
                "RUN --mount=type=cache,target=/dev true",
            ),
            lambda place: (
                place.link("memory/null", "/proc/self/mem"),
                place.link("init/null", "/proc/1/mem"),
                place.link("root/null", "/proc/self/root"),
                place.link("console/null", "/proc/self/fd/3"),
                place.write("file/null", "x", 0o666),
                os.makedirs(f"{place.context}/fifo"),
                os.mkfifo(f"{place.context}/fifo/null"),
                None,
            )[-1],
            code="step/mount",
        ),
        Case(
            "mount-on-root",
            "a mount that takes the place of /, as /, ., .., /../..",
            "an error",
            _run(
                *(f"RUN --mount=type=tmpfs,target={target} true" for target in ("/", ".", "/../..", "/a/.."))
            ),
            code="run/mount-target",
        ),
        Case(
            "mount-on-process",
            "a mount on /proc/self/root, /proc/1/root/..., /proc/self/cwd, /proc/1/ns/mnt",
            "an error: a process's own links are not followed",
            _run(
                *(
                    f"RUN --mount=type={kind},target={target} true"
                    for kind in ("tmpfs", "cache")
                    for target in (
                        "/proc/self/root",
                        "/proc/1/root/OUTSIDE",
                        "/proc/self/cwd/x",
                        "/proc/1/fd/0",
                    )
                )
            ),
            code="step/mount",
        ),
        Case(
            "mount-on-link",
            "a mount on a link of the image to the host's directory, and to /proc/self/root",
            "the link ends in the image; a process's own link is an error",
            _run(
                "RUN --mount=type=tmpfs,target=/out touch /out/x && test -f OUTSIDE/x",
                "RUN --mount=type=tmpfs,target=/process/OUTSIDE touch /process/OUTSIDE/x",
            ),
            _links,
            code=("", "step/mount"),
        ),
        Case(
            "bind-source-out",
            "a bind mount whose source is `..`, a link to the host, or absolute",
            "sources end within the context: not there",
            _run(
                *(
                    f"RUN --mount=type=bind,source={source},target=/x cat /x /x/secret"
                    for source in (
                        "../outside",
                        "../../../../OUTSIDE",
                        "OUTSIDE",
                        "link",
                        "directory",
                        "kernel",
                    )
                )
            ),
            _links,
            code=("copy/missing", "run/mount-source", "mount/missing"),
        ),
        Case(
            "bind-links",
            "links to the host in a context that is mounted as a whole, writable",
            "they end in the step's root; what is written goes to memory of the step, and nowhere",
            _run(
                "RUN --mount=type=bind,rw,target=/x ! cat /x/link && ! cat /x/directory/secret && "
                "echo new > /x/f && ln -s OUTSIDE/secret /x/g && (echo bad > /x/g; true)"
            ),
            _links,
        ),
        Case(
            "bind-from-stage-out",
            "a bind mount from a stage, whose source is a link to the host or to /proc",
            "it ends within the stage: not there",
            tuple(
                f"FROM base AS s\nRUN ln -s OUTSIDE/secret /l; ln -s /proc/self/root /p\nFROM base\n"
                f"RUN --mount=from=s,source={source},target=/x cat /x\n"
                for source in ("/l", "/p/OUTSIDE/secret", "../../../..OUTSIDE/secret")
            ),
            code=("copy/missing", "run/mount-source", "mount/missing"),
        ),
        Case(
            "cache-id-out",
            "a cache whose id or target is a path of `..`, absolute, with a newline or a NUL",
            "an id is hashed, and is no path",
            _run(
                "RUN --mount=type=cache,id=../../../outside/directory,target=/m touch /m/x && ! ls /m/inner",
                "RUN --mount=type=cache,id=OUTSIDE,target=/m touch /m/x && test ! -e /m/secret",
                "RUN --mount=type=cache,target=../../../..OUTSIDE touch OUTSIDE/x && test ! -e "
                "OUTSIDE/secret",
                "RUN --mount=type=cache,id=..,target=/m touch /m/x && test $(ls /m | wc -l) = 1",
            ),
        ),
        Case(
            "cache-links",
            "links to the host left in a cache, which the next step has as source or as a place for a mount",
            "they end in the cache, or in the step's root; a link of /proc's is an error",
            (
                _cache_link("--mount=type=cache,id=c,source=d,target=/x"),
                _cache_link("--mount=type=cache,id=c,source=s,target=/x"),
                _cache_link("--mount=type=cache,id=c,source=p/OUTSIDE,target=/x"),
                _cache_link("--mount=type=cache,id=c,source=../../outside,target=/x"),
                _cache_link("--mount=type=cache,id=c,target=/c --mount=type=tmpfs,target=/c/d"),
                _cache_link("--mount=type=cache,id=c,target=/c --mount=type=tmpfs,target=/c/p/OUTSIDE/new"),
                _cache_link("--mount=type=cache,id=c,target=/c --mount=type=tmpfs,target=/c/d/new/er"),
            ),
            code=None,
        ),
        Case(
            "cache-begins-with-links",
            "a cache that begins with a directory of the context, which is a link to the host",
            "the link ends within the context: not there",
            _run(
                "RUN --mount=type=cache,from=more,source=directory,target=/x cat /x/secret",
                "RUN --mount=type=cache,from=more,source=../outside,target=/x cat /x/secret",
            ),
            _links,
            words=("--build-context", "more=."),
            code=("copy/missing", "run/mount-source", "mount/missing"),
        ),
        Case(
            "cache-devices",
            "a disk's node, a set-user-ID program and a file capability left in a cache, used by the next "
            "step",
            "a cache is nodev too. With a single id there are empty files in it",
            _run(
                "RUN --mount=type=cache,id=c,target=/m mknod /m/disk b 8 0; mknod /m/mem c 1 1; true\n"
                "RUN --mount=type=cache,id=c,target=/m "
                'test -z "$(head -c 1 /m/disk)" && test -z "$(head -c 1 /m/mem)"'
            ),
        ),
        Case(
            "secret-target",
            "a secret whose target is /, /proc/1/root/x, /etc/passwd, or has `..` in its id",
            "it is mounted in memory, within the root, or an error",
            _run(
                "RUN --mount=type=secret,id=s,target=/proc/1/root/x true",
                "RUN --mount=type=secret,id=s,target=/ true",
                "RUN --mount=type=secret,id=s,target=../../../..OUTSIDE/secret test -f OUTSIDE/secret",
                "RUN --mount=type=secret,id=s,target=/etc/passwd id",
            ),
            lambda place: (place.write("value", "harmless"), None)[-1],
            words=("--secret", "id=s,src=value"),
            code=("step/mount", "run/mount-target", ""),
        ),
        Case(
            "tmpfs-size",
            "a tmpfs of an enormous, negative or overflowing size",
            "an error, or no more than the kernel has",
            _run(
                *(
                    f"RUN --mount=type=tmpfs,size={size},target=/t true"
                    for size in ("9e99", "-1", "99999999999g")
                )
            ),
            code=None,
        ),
    ),
)
