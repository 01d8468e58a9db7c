"""kill -9 at random instants of a build, then build again: `tests/campaigns/kills.py [KILLS]`, as root.

After each kill nothing of the build may run or be mounted; the next build must give the image that an
undisturbed one gives, must leave `tmp/` of the store empty, and every layer in the store must have the
digest that it is named by.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import scene

sys.path.insert(0, scene.REPOSITORY)


@dataclass(slots=True)
class Campaign:
    """A recipe, its undisturbed image and time, and what went wrong so far."""

    directory: str
    recipe: str
    environment: dict[str, str]
    random: random.Random
    image: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    struck: int = 0
    """Kills that hit a running build."""

    def build(self, root: str) -> subprocess.CompletedProcess[str]:
        """Build to the end; the id goes to a file, so that nothing printed is taken for it."""
        return subprocess.run(
            scene.build_command(self.recipe, root, "--iidfile", f"{root}.id"),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def undisturbed(self) -> None:
        """Build in two fresh stores: the time of the second, warm, is what the kills are spread over."""
        ids = []
        for name in ("first", "second"):
            root = os.path.join(self.directory, name)
            start = time.monotonic()
            done = self.build(root)
            self.seconds = time.monotonic() - start
            if done.returncode != 0:
                sys.exit(f"the undisturbed build fails:\n{done.stdout}")
            ids.append(_read(f"{root}.id"))
            shutil.rmtree(root)
        if ids[0] != ids[1]:
            sys.exit(f"two undisturbed builds give two images: {ids}")
        self.image = ids[0]

    def kill_once(self, root: str) -> str:
        """Start a build, kill one or all of its processes at a random instant, and look at what is left.

        Returns a description of what was done.
        """
        with open(f"{root}.log", "w+", encoding="utf-8") as log:
            builder = subprocess.Popen(
                scene.build_command(self.recipe, root),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            instant = self.random.uniform(0, self.seconds)
            time.sleep(instant)
            victim = self.random.choice(("builder", "builder", "group", "one below"))
            if builder.poll() is None:
                self.struck += 1
            self._strike(victim, builder.pid)
            try:
                status = builder.wait(60)
            except subprocess.TimeoutExpired:
                self.faults.append(f"{victim} killed at {instant:.3f} s: the builder hangs")
                builder.kill()
                status = builder.wait()
            log.seek(0)
            output = log.read()
        done = f"{victim} killed at {instant:.3f} s, builder's status {status}"
        if "Traceback" in output:
            self.faults.append(f"{done}: a traceback:\n{output}")
        if status not in (-signal.SIGKILL, 0, 1, 4):
            self.faults.append(f"{done}:\n{output}")
        self.look(done)
        return done

    def _strike(self, victim: str, pid: int) -> None:
        try:
            if victim == "builder":
                os.kill(pid, signal.SIGKILL)
            elif victim == "group":
                os.killpg(pid, signal.SIGKILL)
            else:
                below = scene.descendants(pid)
                os.kill(self.random.choice(below) if below else pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it was faster

    def look(self, done: str) -> None:
        """Note what a build has left running or mounted."""
        if running := scene.left_running():
            self.faults.append(f"{done}: still running: {running}")
            for pid in scene.descendants(os.getpid()):
                os.kill(pid, signal.SIGKILL)
        if mounted := scene.mounts_of(self.directory):
            self.faults.append(f"{done}: still mounted: {mounted}")

    def build_again(self, root: str, done: str) -> None:
        """Build to the end in the store that the kills left, and check the result and the store."""
        again = self.build(root)
        if again.returncode != 0:
            self.faults.append(f"{done}: the next build fails:\n{again.stdout}")
            return
        if (image := _read(f"{root}.id")) != self.image:
            self.faults.append(f"{done}: the next build gives {image}, not {self.image}")
        if left := os.listdir(os.path.join(root, "tmp")):
            self.faults.append(f"{done}: left in tmp/: {left}")
        self.faults += [f"{done}: {fault}" for fault in _unsound(root)]
        self.look(f"{done}, then a whole build")


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _unsound(root: str) -> list[str]:
    """Return what is wrong with the layers of a store: each is hashed anew."""
    from cache.errors import CacheError
    from cache.store import Store

    faults = []
    store = Store.open(root)
    try:
        for layer in store.layers.all():
            try:
                store.layers.verify(layer.chain_id)
            except CacheError as error:
                faults.append(str(error))
    finally:
        store.close()
    return faults


def run(kills: int, seed: int) -> int:
    """Kill `kills` times, in stores that bear up to three kills each. Returns the exit code."""
    scene.become_subreaper()
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pybuild-kills-") as directory:
        context = os.path.join(directory, "context")
        os.mkdir(context)
        campaign = Campaign(
            directory, scene.write_context(context), scene.environment(directory), random.Random(seed)
        )
        campaign.undisturbed()
        print(f"undisturbed: {campaign.image} in {campaign.seconds:.2f} s", flush=True)
        killed = number = 0
        while killed < kills:
            root = os.path.join(directory, f"store-{number}")
            number += 1
            story = [
                campaign.kill_once(root) for _ in range(min(campaign.random.randint(1, 3), kills - killed))
            ]
            killed += len(story)
            campaign.build_again(root, "; ".join(story))
            shutil.rmtree(root)
            print(f"{killed}/{kills}: {story[-1]}; faults so far: {len(campaign.faults)}", flush=True)
    for fault in campaign.faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    print(f"{kills} kills, {campaign.struck} while the build ran, {len(campaign.faults)} faults")
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("kills", nargs="?", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = arguments.parse_args()
    if os.geteuid() != 0:
        sys.exit("kills.py: builds need root here: run this as root")
    sys.exit(run(given.kills, given.seed))
