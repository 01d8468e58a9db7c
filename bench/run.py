"""Compare pybuild with its peers (`make bench` runs it). Needs root, hyperfine, skopeo, umoci, the peers."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

import rootfs
from measure import FLOOR, Subject, Times, interleaved, lstat_pass, python_floor
from peers import PEERS, Peer
from report import Result, markdown
from workloads import BASE, WORKLOADS, Workload

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "RESULTS.md")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=10, help="how often each command is timed (default: 10)"
    )
    parser.add_argument(
        "--workload", action="append", choices=[w.name for w in WORKLOADS], help="only this one"
    )
    parser.add_argument("--peer", action="append", choices=[p.name for p in PEERS], help="only this one")
    parser.add_argument(
        "--results", default=RESULTS, metavar="FILE", help="where the report goes (default: %(default)s)"
    )
    return parser.parse_args()


def build_command(peer: Peer, workload: Workload, context: str, salt: str) -> list[str]:
    arguments = {"SALT": salt} if workload.runs_steps else {}
    return peer.build(os.path.join(context, workload.recipe), f"bench-{workload.name}", arguments)


def measure(workload: Workload, all_peers: list[Peer], context: str, rounds: int) -> Result:
    """Time `workload` for all peers. Each builds it once before, untimed: all caches are warm then."""
    peers = [peer for peer in all_peers if workload.portable or peer.name == "pybuild"]
    os.mkdir(context)
    workload.write(context)
    for peer in peers:
        command = build_command(peer, workload, context, "warm")
        done = subprocess.run(
            command,
            env={**os.environ, **peer.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            sys.exit(f"{peer.name} does not build {workload.name}:\n{done.stdout}")

    def subject(peer: Peer) -> Subject:
        return Subject(
            peer.name,
            lambda number: build_command(peer, workload, context, f"round-{number}"),
            peer.environment,
        )

    times: dict[str, Times] = interleaved([python_floor(), *map(subject, peers)], rounds)
    floor = times.pop(FLOOR)
    return Result(workload.title, workload.goal, workload.runs_steps, times, floor, lstat_pass(context))


def main() -> None:
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("bench/run.py: the peers build as root: run this as root")
    if shutil.which("hyperfine") is None:
        sys.exit("bench/run.py: hyperfine is missing: apt-get install hyperfine")
    peers = [peer for peer in PEERS if options.peer is None or peer.name in options.peer]
    workloads = [load for load in WORKLOADS if options.workload is None or load.name in options.workload]

    versions: dict[str, str] = {}
    for peer in peers:
        version = peer.version()
        if version is None:
            sys.exit(f"bench/run.py: {peer.name} is not on this machine")
        versions[peer.name] = version

    with tempfile.TemporaryDirectory(prefix="pybuild-bench-") as directory:
        tar, archive = os.path.join(directory, "base.tar"), os.path.join(directory, "base.oci")
        rootfs.make(tar)
        rootfs.as_oci_archive(tar, archive, BASE)
        results = []
        with contextlib.ExitStack() as cleanup:
            for peer in peers:
                peer.set_up(os.path.join(directory, peer.name), archive)
                cleanup.callback(peer.tear_down)
            for workload in workloads:
                print(f"{workload.title} ...", file=sys.stderr)
                context = os.path.join(directory, workload.name)
                results.append(measure(workload, peers, context, options.rounds))

    report = markdown(results, versions, options.rounds)
    with open(options.results, "w", encoding="utf-8") as file:
        file.write(report)
    print(report)


if __name__ == "__main__":
    main()
