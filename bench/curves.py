"""Measure what grows with what (`python -m bench.curves`, as root): steps, files, bytes, depth.

For each curve pybuild builds the same recipe in growing sizes, each into an empty store and then once more
with nothing to do. `--most` says how far it goes; what does not fit on the disk is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import cgroup, command, disk, plots, rootfs
from bench.machine import machine
from bench.mounts import in_private_mounts
from bench.peers.protocol import Build
from bench.peers.pybuild import Pybuild
from bench.workloads.files import tree
from bench.workloads.ground import BASE
from bench.workloads.steps import trivial

HERE = os.path.dirname(os.path.abspath(__file__))
_SPARE = 3.0
"""A size is left out where less than so many times its bytes are free: context, store, and some for
others.
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """`write(directory, x)` makes a context of size `x`; `bytes_of(x)`: how many bytes it will have at
    most.
    """

    name: str
    title: str
    unit: str
    sizes: tuple[int, ...]
    write: Callable[[str, int], None]
    bytes_of: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Point:
    """At size `x`: seconds and processor seconds of the first build, and seconds of the next; most bytes
    held.
    """

    x: int
    cold: float
    cpu: float | None
    again: float
    peak: int


def _recipe(directory: str, text: str) -> None:
    with open(os.path.join(directory, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write(text)


def _steps(directory: str, steps: int) -> None:
    _recipe(directory, trivial(steps))


def _files(directory: str, files: int) -> None:
    tree(os.path.join(directory, "tree"), files, 100)
    _recipe(directory, f"FROM {BASE}\nCOPY tree /tree\n")


def _bytes(directory: str, megabytes: int) -> None:
    _recipe(directory, f"FROM {BASE}\nRUN dd if=/dev/zero of=/big bs=1048576 count={megabytes} 2>/dev/null\n")


def _depth(directory: str, layers: int) -> None:
    """One step that looks for many names that are in no layer, on top of `layers` layers: what a deep
    stack costs the step.
    """
    copies = "".join(f"COPY file /layer-{number}\n" for number in range(layers))
    with open(os.path.join(directory, "file"), "w", encoding="utf-8") as file:
        file.write("x\n")
    look = "i=0; while [ $i -lt 5000 ]; do [ -e /none-$i ] || i=$((i+1)); done"
    _recipe(directory, f"FROM {BASE}\n{copies}RUN {look}\n")


CURVES = (
    Curve("steps", "Trivial RUNs", "RUNs", (10, 25, 50, 100, 200, 400), _steps, lambda x: x << 14),
    Curve(
        "files",
        "COPY of files of 100 bytes",
        "files",
        (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        _files,
        lambda x: x << 13,
    ),
    Curve(
        "bytes",
        "RUN that writes a file",
        "MiB",
        (64, 256, 1024, 4096, 10240, 20480),
        _bytes,
        lambda x: x << 20,
    ),
    Curve("depth", "COPYs below a RUN", "layers", (10, 25, 50, 100, 200, 400), _depth, lambda x: x << 14),
)


def measured(curve: Curve, most: int | None, directory: str, base: str) -> Iterator[Point]:
    """Yield the points of `curve` up to the size `most`, each in a store of its own below `directory`."""
    log = os.path.join(directory, "log")
    for x in curve.sizes:
        if most is not None and x > most:
            return
        if shutil.disk_usage(directory).free < _SPARE * curve.bytes_of(x):
            print(f"  {x:,} {curve.unit}: not enough room on the disk", file=sys.stderr)
            return
        context, peer = os.path.join(directory, "context"), Pybuild()
        os.mkdir(context)
        curve.write(context, x)
        peer.set_up(os.path.join(directory, "peer"))
        peer.load(base, BASE)
        build = peer.build(Build(os.path.join(context, "Dockerfile"), "curve"))
        os.sync()
        cold = command.measured(build, [], log)
        command.measured(
            build, [], log
        )  # the first one after a build may still learn which files are unchanged
        again = command.measured(build, [], log)
        peer.forget()
        peak = command.peak_memory(build, [], log)
        shutil.rmtree(context)
        shutil.rmtree(os.path.join(directory, "peer"))
        disk.trim(directory)
        print(
            f"  {x:,} {curve.unit}: {cold.wall:.3f} s, again {again.wall:.3f} s, {peak >> 20} MiB",
            file=sys.stderr,
            flush=True,
        )
        yield Point(x, cold.wall, cold.cpu, again.wall, peak)


def draw(curve: Curve, points: list[Point], directory: str) -> None:
    """Write the pictures of a curve into `directory`."""

    def line(name: str, value: Callable[[Point], float | None]) -> plots.Line:
        found = ((point.x, value(point)) for point in points)
        return plots.Line(name, tuple((x, y) for x, y in found if y is not None))

    times = [
        line("first build", lambda p: p.cold),
        line("processor time of it", lambda p: p.cpu),
        line("the same again", lambda p: p.again),
    ]
    path = os.path.join(directory, f"curve-{curve.name}")
    plots.curve(times, f"{curve.title}: time", curve.unit, "seconds", f"{path}.png")
    memory = [line("first build", lambda p: p.peak / 2**20)]
    plots.curve(memory, f"{curve.title}: peak memory", curve.unit, "MiB", f"{path}-memory.png")


def document(where: str, version: str, found: dict[str, list[Point]]) -> str:
    """Return the raw figures as JSON."""
    curves = {
        name: [
            {
                "x": point.x,
                "cold_seconds": round(point.cold, 4),
                "cold_cpu_seconds": point.cpu,
                "again_seconds": round(point.again, 4),
                "peak_bytes": point.peak,
            }
            for point in points
        ]
        for name, points in found.items()
    }
    return json.dumps({"machine": where, "version": version, "curves": curves}, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/curves.py", description=__doc__)
    names = [curve.name for curve in CURVES]
    parser.add_argument("--curve", action="append", choices=names, help="only this; may be repeated")
    parser.add_argument("--most", type=int, metavar="N", help="no size beyond N, in the curve's own unit")
    parser.add_argument("--results", default=HERE, metavar="DIR", help="where figures and plots go")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/curves.py: run this as root")
    in_private_mounts()
    command.adopt_orphans()
    found: dict[str, list[Point]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="pybuild-curves-") as temporary,
        cgroup.entered(),
        disk.own(temporary) as directory,
    ):
        tar, base = os.path.join(directory, "base.tar"), os.path.join(directory, "base.oci")
        rootfs.make(tar)
        rootfs.as_oci_archive(tar, base, BASE)
        where = machine(directory)
        for curve in CURVES:
            if options.curve is None or curve.name in options.curve:
                print(curve.title, file=sys.stderr)
                found[curve.name] = list(measured(curve, options.most, directory, base))
    pictures = os.path.join(options.results, "pictures")
    os.makedirs(pictures, exist_ok=True)
    for curve in CURVES:
        if found.get(curve.name):
            draw(curve, found[curve.name], pictures)
    with open(os.path.join(options.results, "curves.json"), "w", encoding="utf-8") as file:
        file.write(document(where, Pybuild().version(), found))


if __name__ == "__main__":
    main()
