"""Requests and bytes of a shared cache in a registry, of pybuild and of buildah: `bench/sharedcache.py`, as
root.

One recipe is built by machines that have nothing yet: with an empty cache, with a full one, with a full one
after a source file was edited. Base and cache lie in Debian's docker-registry on the loopback, and each
request goes through a proxy that counts. The table goes into docs/shared-cache.md.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, REPOSITORY)

from bench import rootfs  # noqa: E402
from tests.registry_fixtures.counting import CountingProxy  # noqa: E402
from tests.registry_fixtures.registry import Registry  # noqa: E402

PAGE = os.path.join(REPOSITORY, "docs", "shared-cache.md")
BEGIN, END = "<!-- made by bench/sharedcache.py -->\n", "<!-- end -->\n"

_DEPENDENCIES, _SOURCE, _BASE = 8 << 20, 200 << 10, 24 << 20
"""Bytes that cannot be compressed: what the recipe copies first, what it copies last, what the base has."""

RECIPE = """\
FROM {base}
COPY dependencies /dependencies
RUN cat /dependencies > /installed
RUN echo 1 > /etc/one
RUN echo 2 > /etc/two
ENV GREETING=hello
COPY source /source
RUN cat /source > /app
RUN echo done > /etc/done
CMD ["/bin/sh"]
"""
_RUNS = 5


@dataclass(frozen=True, slots=True)
class Count:
    """What went through the proxy in one build; sizes are those of bodies, in bytes. `ran`: RUNs that ran."""

    requests: int
    up: int
    down: int
    ran: int


class Machine(Protocol):
    """A builder with a store of its own, empty at first."""

    def build(self, recipe: str, cache: str, target: str | None) -> int:
        """Build with the cache in the repository `cache`, read and written; write the image to `target`, a
        file or docker://NAME. Return how many RUNs ran."""


class Pybuild:
    """This checkout's pybuild."""

    def __init__(self, directory: str) -> None:
        self._environment = {**os.environ, "PYBUILD_ROOT": directory, "PYTHONPATH": REPOSITORY}

    @staticmethod
    def version() -> str:
        """Return its name."""
        from builder.version import VERSION

        return f"pybuild {VERSION}"

    def build(self, recipe: str, cache: str, target: str | None) -> int:
        """See Machine."""
        told = _run(
            [
                *(sys.executable, "-m", "builder.main", "build", recipe, "--progress", "plain"),
                *("--cache-from", f"type=registry,ref={cache},trust=any"),
                *("--cache-to", f"type=registry,ref={cache}"),
                *_output(target),
            ],
            self._environment,
            os.path.dirname(recipe),
        )
        steps = [line.partition(" ")[0] for line in told.splitlines() if "] RUN " in line]
        return sum(f"{step} CACHED" not in told for step in steps)


class Buildah:
    """Debian's buildah, with `--layers`."""

    def __init__(self, directory: str) -> None:
        os.mkdir(directory)
        containers, storage = f"{directory}/containers.conf", f"{directory}/storage.conf"
        # By default it raises the limits beyond those of this process: CAP_SYS_RESOURCE may be missing.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with open(containers, "w", encoding="utf-8") as file:
            file.write(f'[containers]\ndefault_ulimits = ["nofile={files}:{files}"]\n')
        with open(storage, "w", encoding="utf-8") as file:
            file.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/graph"\n')
            file.write(f'runroot = "{directory}/run"\n')
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": containers,
            "CONTAINERS_STORAGE_CONF": storage,
            "TMPDIR": directory,
        }

    @staticmethod
    def version() -> str:
        """Return its name and version."""
        told = subprocess.run(["buildah", "--version"], check=True, capture_output=True, text=True).stdout
        return " ".join(told.split()[::2][:2])

    def build(self, recipe: str, cache: str, target: str | None) -> int:
        """See Machine."""
        told = _run(
            [
                *("buildah", "build", "--layers", "--isolation", "chroot", "--network", "host"),
                *("--tls-verify=false", "--cache-from", cache, "--cache-to", cache),
                *("-t", "app", "-f", recipe, os.path.dirname(recipe)),
            ],
            self._environment,
            os.path.dirname(recipe),
        )
        if target:
            place = target if "://" in target else f"oci-archive:{target}"
            push = ["buildah", "push", "--quiet", "--tls-verify=false", "app", place]
            _run(push, self._environment, os.path.dirname(recipe))
        steps = [step for step in told.split("STEP ")[1:] if ": RUN " in step.splitlines()[0]]
        return sum("--> Using cache " not in step for step in steps)


def _output(target: str | None) -> list[str]:
    if target is None:
        return ["-t", "app"]
    if "://" in target:  # compressed as the cache has it
        return ["-t", target.removeprefix("docker://"), "-o", "type=registry"]
    return ["-t", "app", "-o", f"type=oci,dest={target}"]


def _run(argv: list[str], environment: dict[str, str], directory: str) -> str:
    done = subprocess.run(
        argv, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)}:\n{done.stdout}")
    return done.stdout


def write_base(directory: str, registry: Registry) -> None:
    """Put the base into the registry."""
    tar, archive = f"{directory}/base.tar", f"{directory}/base.oci"
    rootfs.make(tar)
    filling = f"{directory}/filling"
    _write_noise(filling, _BASE, 0)
    _run(["tar", "--append", "--file", tar, "--directory", directory, "filling"], dict(os.environ), "/")
    rootfs.as_oci_archive(tar, archive, "base")
    target = f"docker://{registry.address}/base:1"
    _run(
        ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci-archive:{archive}", target],
        dict(os.environ),
        "/",
    )


def _write_noise(path: str, size: int, seed: int) -> None:
    with open(path, "wb") as file:
        file.write(random.Random(seed).randbytes(size))


def count(machine: type[Pybuild] | type[Buildah], directory: str) -> dict[str, Count]:
    """Return what each build takes, by its name."""
    context = f"{directory}/context"
    os.makedirs(context)
    _write_noise(f"{context}/dependencies", _DEPENDENCIES, 1)
    _write_noise(f"{context}/source", _SOURCE, 2)
    with Registry(f"{directory}/registry") as registry, CountingProxy(registry.port) as proxy:
        write_base(directory, registry)
        recipe = f"{context}/Dockerfile"
        with open(recipe, "w", encoding="utf-8") as file:
            file.write(RECIPE.format(base=f"{proxy.address}/base:1"))
        found = {}
        places = {"": None, "file": f"{directory}/app.tar", "registry": f"docker://{proxy.address}/app:1"}
        for number, (name, place, change) in enumerate(_builds(context)):
            change()
            proxy.reopen()
            fresh = machine(f"{directory}/store-{number}")
            ran = fresh.build(recipe, f"{proxy.address}/cache", places[place])
            found[name] = Count(proxy.requests, proxy.sent, proxy.received, ran)
        return found


def _builds(context: str) -> list[tuple[str, str, Callable[[], None]]]:
    return [
        ("cold: the cache is empty", "", lambda: None),
        ("warm: nothing has changed", "", lambda: None),
        ("warm, and the image goes to the registry", "registry", lambda: None),
        ("warm, and the image goes to a file", "file", lambda: None),
        ("edited: another source file", "", lambda: _write_noise(f"{context}/source", _SOURCE, 3)),
    ]


def table(counts: dict[str, dict[str, Count]]) -> str:
    """Return the counts, by builder and build, as Markdown."""
    lines = [
        "| on a machine that has nothing yet | builder | requests | sent | received | RUNs run |",
        "|---|---|---|---|---|---|",
    ]
    for build in next(iter(counts.values())):
        for name, found in counts.items():
            each = found[build]
            sizes = f"{_size(each.up)} | {_size(each.down)}"
            lines.append(f"| {build} | {name} | {each.requests} | {sizes} | {each.ran} of {_RUNS} |")
    return "".join(line + "\n" for line in lines)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB" if count else "0"


def put(page: str, text: str) -> None:
    """Put `text` between the marks of a page."""
    with open(page, encoding="utf-8") as file:
        before, begin, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page} has no marks for the table")
    with open(page, "w", encoding="utf-8") as file:
        file.write(before + begin + text + end + after)


def main() -> None:
    """Count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--page", default=PAGE, help="where the table goes, between its marks (default: %(default)s)"
    )
    page = parser.parse_args().page
    if os.geteuid() != 0:
        sys.exit("bench/sharedcache.py: builds need root: run this as root")
    directory = tempfile.mkdtemp(prefix="pybuild-bench-")
    try:
        counts = {
            each.version(): count(each, f"{directory}/{each.__name__.lower()}") for each in (Pybuild, Buildah)
        }
    finally:
        shutil.rmtree(directory)
    made = table(counts)
    print(made)
    put(page, made)


if __name__ == "__main__":
    main()
