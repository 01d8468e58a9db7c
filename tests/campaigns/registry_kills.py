"""kill -9 a registry while something is under way: `tests/campaigns/registry_kills.py [KILLS]`, as root.

What is under way, `--scene NAME` for only that: a push onto a tag that exists, a pull, a build that fetches
the layers of its base when it needs them, a build that tells a shared cache what it ran, one that is told.
Each is done once undisturbed, behind a proxy that counts requests, answers, and pieces of bodies. Then it is
done KILLS times (50), and Debian's docker-registry is killed at as many points, spread evenly over that
count. Every other time it is back after a moment; else when the command has ended.

After each kill what the registry has under a tag is what was there before or the new thing, whole: skopeo
copies it, and verifies each digest. Then the same command succeeds, and sends or fetches nothing that had
arrived whole.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

import scene

sys.path.insert(0, scene.REPOSITORY)

from registry_scenes import SCENES, Place, Scene

_BACK = 0.3
"""Seconds until a registry that comes back does: the first attempts of a client have failed by then."""


@dataclass(slots=True)
class Tally:
    """What came of one scene's kills."""

    kills: int = 0
    struck: int = 0
    """Kills while the command ran."""
    survived: int = 0
    """Commands that succeeded nevertheless."""
    new: int = 0
    """How often the new thing was there, whole, after the kill."""
    kept: int = 0
    again: int = 0
    """Blobs that had arrived whole, and those of them that came again."""
    faults: list[str] = field(default_factory=list)


def kill_at(place: Place, each: Scene, point: int, back: bool, tally: Tally) -> None:
    """Do what is done in a scene, kill the registry before the event `point`, look, and do it again."""
    what = f"{each.name}, killed before event {point}{', back at once' if back else ''}"
    each.prepare(place)
    place.proxy.strike_at(point, place.registry.stop)
    returning = threading.Thread(target=_bring_back, args=(place,))
    if back:
        returning.start()
    done = each.act(place)
    struck = place.proxy.struck.is_set()
    place.proxy.struck.set()
    if back:
        returning.join()
    elif struck:
        place.registry.start()
    tally.kills += 1
    tally.struck += struck
    tally.survived += struck and done.code == 0
    faults = each.judge(place, done, struck)
    if "Traceback" in done.err:
        faults.append("a traceback")
    faults += place.left_over()
    whole = each.whole(place)
    tally.kept += len(whole)
    tally.new += each.is_new(place)
    place.proxy.reopen()
    again = each.act(place)
    if again.code != 0:
        faults.append(f"done again, it fails: {again.err}")
    repeated = whole & each.moved(place)
    tally.again += len(repeated)
    if repeated:
        faults.append(f"moved again: {sorted(repeated)}")
    faults += each.confirm(place, again)
    faults += place.left_over()
    tally.faults += [f"{what}: {fault}\n{done.err}" for fault in faults]


def _bring_back(place: Place) -> None:
    place.proxy.struck.wait()
    if place.proxy.down:
        time.sleep(_BACK)
        place.registry.start()
        place.proxy.resume()


def points(total: int, count: int) -> list[int]:
    """Return `count` numbers from 1 to `total`, spread evenly, the first and the last among them; or the
    middle.
    """
    if count == 1:
        return [(total + 1) // 2]
    return [1 + (total - 1) * number // (count - 1) for number in range(count)]


def campaign(directory: str, kills: int, names: list[str]) -> dict[str, Tally]:
    """Kill `kills` times in each scene; return what came of it, by scene."""
    tallies = {}
    with Place.made(directory) as place:
        for turn, each in enumerate(SCENES):
            if names and each.name not in names:
                continue
            tally = tallies[each.name] = Tally()
            each.prepare(place)
            place.proxy.strike_at(sys.maxsize, place.registry.stop)
            undisturbed = each.act(place)
            total = place.proxy.events
            if undisturbed.code != 0 or (faults := each.confirm(place, undisturbed)):
                tally.faults.append(f"{each.name}, undisturbed: {undisturbed.err} {faults}")
                continue
            for number, point in enumerate(points(total, kills)):
                kill_at(place, each, point, (turn + number) % 2 == 1, tally)
            print(
                f"{each.name}: {tally.kills} kills over {total} events, {tally.struck} under way, "
                f"{tally.survived} survived, {tally.new} were new and whole, {tally.kept} blobs had arrived, "
                f"{tally.again} moved again, {len(tally.faults)} faults",
                flush=True,
            )
    return tallies


def main(arguments: argparse.Namespace) -> int:
    """Run the campaign; return the exit code."""
    directory = tempfile.mkdtemp(prefix="pybuild-registry-kills-")
    try:
        tallies = campaign(directory, arguments.kills, arguments.scene)
    finally:
        shutil.rmtree(directory)
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    print(f"{sum(each.kills for each in tallies.values())} kills, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kills", nargs="?", type=int, default=50)
    parser.add_argument("--scene", action="append", default=[], choices=[each.name for each in SCENES])
    if os.geteuid() != 0:
        sys.exit("registry_kills.py: run this as root: builds need it")
    sys.exit(main(parser.parse_args()))
