"""Measure pybuild and its peers (`make bench`). Needs root, and the peers.

All peers have their stores below one temporary directory, and the suite has a mount namespace of its own, so
that nothing is left on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable

from bench import cgroup, command, disk, rootfs
from bench.command import CommandFailed
from bench.machine import machine
from bench.mounts import in_private_mounts, unmount_below
from bench.peers import DEFAULT, OURS, Peer, peers
from bench.peers.protocol import Unavailable
from bench.report import markdown
from bench.results import BadResults, Measured, Results, from_json, to_json
from bench.rounds import Effort, interleaved
from bench.workloads import WORKLOADS
from bench.workloads.ground import BASE, Ground, Size, Workload

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for."""
    names = [peer.name for peer in peers()]
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each command (default: %(default)s)")
    parser.add_argument(
        "--budget",
        type=float,
        default=60,
        metavar="SECONDS",
        help="no further run of a command whose runs have taken so long (default: %(default)s)",
    )
    parser.add_argument(
        "--workload",
        action="append",
        choices=[one.name for one in WORKLOADS],
        help="only this; may be repeated",
    )
    parser.add_argument(
        "--peer",
        action="append",
        choices=names,
        help=f"only this; may be repeated (default: {', '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--scale", type=float, default=1, help="the size of the workloads: less than 1 for a quick try"
    )
    parser.add_argument("--no-memory", action="store_true", help="without the runs that measure peak memory")
    parser.add_argument("--no-plots", action="store_true", help="without plots, which need matplotlib")
    parser.add_argument(
        "--update",
        action="store_true",
        help="keep what results.json has of other workloads, if machine, versions and sizes are the same",
    )
    parser.add_argument(
        "--only-page", action="store_true", help="measure nothing: write the page of results.json anew"
    )
    parser.add_argument(
        "--results",
        default=HERE,
        metavar="DIR",
        help="where RESULTS.md goes, and all else (default: %(default)s)",
    )
    return parser.parse_args(words)


def say(line: str) -> None:
    """Tell what is done."""
    print(line, file=sys.stderr, flush=True)


def chosen_peers(names: list[str]) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers of those names that are here, ours first, and what they say of themselves."""
    here: list[Peer] = []
    versions: dict[str, str] = {}
    for peer in peers():
        if peer.name in names or peer.name == OURS:
            try:
                versions[peer.name] = peer.version()
            except Unavailable as reason:
                sys.exit(f"bench/run.py: {peer.name}: {reason} (or leave it out, with --peer)")
            here.append(peer)
    return here, versions


def measure(workload: Workload, ground: Ground, effort: Effort) -> Measured:
    """Measure one workload on its new ground."""
    say(workload.title)
    os.mkdir(ground.directory)
    try:
        with ground.cleanup:
            series = interleaved(workload.subjects(ground), effort, ground.log, say)
    except CommandFailed as failure:
        say(f"  failed: {failure}")
        return Measured(workload.name, workload.title, (), str(failure))
    finally:
        for peer in ground.peers:
            peer.forget()
        shutil.rmtree(ground.directory, ignore_errors=True)
    return Measured(workload.name, workload.title, tuple(series))


def measure_all(options: argparse.Namespace, directory: str, keep: Callable[[Results], object]) -> Results:
    """Set up the peers, measure the workloads that were asked for, and end the peers.

    After each workload, `keep` is given what there is by then.
    """
    used, versions = chosen_peers(options.peer or list(DEFAULT))
    workloads = [one for one in WORKLOADS if options.workload is None or one.name in options.workload]
    tar, base = os.path.join(directory, "base.tar"), os.path.join(directory, "base.oci")
    rootfs.make(tar)
    rootfs.as_oci_archive(tar, base, BASE)
    effort = Effort(options.runs, options.budget, not options.no_memory)
    where = machine(directory)
    results = Results(where, versions, options.runs, options.scale, ())
    with contextlib.ExitStack() as cleanup:
        for peer in used:
            cleanup.callback(peer.tear_down)
            peer.set_up(os.path.join(directory, peer.name))
            peer.load(base, BASE)
        log = os.path.join(directory, "log")
        for one in workloads:
            ground = Ground(os.path.join(directory, one.name), used, Size(options.scale), log)
            workloads_done = (*results.workloads, measure(one, ground, effort))
            results = dataclasses.replace(results, workloads=workloads_done)
            disk.trim(directory)
            keep(results)
    return results


def read(path: str) -> Results:
    """Return the results in the file `path`; ends the program where there are none."""
    try:
        with open(path, encoding="utf-8") as file:
            return from_json(file.read())
    except (OSError, BadResults) as error:
        sys.exit(f"bench/run.py: {path}: {error}")


def merged(before: Results, after: Results) -> Results:
    """Return `after` with those workloads of `before` that it has not, in the order of the suite."""
    if (before.machine, before.scale) != (after.machine, after.scale):
        sys.exit("bench/run.py: --update: what is there is of another machine, or of other sizes")
    versions = {**before.versions, **after.versions}
    if any(versions[name] != version for name, version in before.versions.items()):
        sys.exit("bench/run.py: --update: what is there is of other versions")
    found = {one.name: one for one in (*before.workloads, *after.workloads)}
    ordered = tuple(found[one.name] for one in WORKLOADS if one.name in found)
    return dataclasses.replace(after, versions=versions, workloads=ordered)


def write_figures(results: Results, directory: str) -> None:
    """Write the raw figures into `directory`."""
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "results.json"), "w", encoding="utf-8") as file:
        file.write(to_json(results))


def write_page(results: Results, directory: str, with_plots: bool) -> str:
    """Write page and plots into `directory`; return the page."""
    pictures = []
    if with_plots:
        from bench import plots

        pictures = plots.of_results(results, directory)
    page = markdown(results, {one.name: one.goals for one in WORKLOADS}, pictures)
    with open(os.path.join(directory, "RESULTS.md"), "w", encoding="utf-8") as file:
        file.write(page)
    return page


def main() -> None:
    options = arguments()
    figures = os.path.join(options.results, "results.json")
    before = read(figures) if options.update or options.only_page else None
    if before is not None and options.only_page:
        print(write_page(before, options.results, not options.no_plots))
        return
    if os.geteuid() != 0:
        sys.exit("bench/run.py: the peers build as root: run this as root")
    in_private_mounts()
    command.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what was started is ended

    def keep(so_far: Results) -> Results:
        results = so_far if before is None else merged(before, so_far)
        write_figures(results, options.results)
        return results

    with tempfile.TemporaryDirectory(prefix="pybuild-bench-") as temporary:
        try:
            with cgroup.entered(), disk.own(temporary) as directory:
                results = keep(measure_all(options, directory, keep))
        except CommandFailed as failure:
            sys.exit(f"bench/run.py: {failure}")
        finally:
            unmount_below(temporary)
    print(write_page(results, options.results, not options.no_plots))


if __name__ == "__main__":
    main()
