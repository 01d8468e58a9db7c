"""kill -9 at random instants of a build, then build again: `tests/campaigns/kills.py [KILLS]`, as root.

With `--ids subordinate` or `--ids single` the builds are those of a user who is not root; `--snapshotter` has
root filesystems made another way than by the kernel's overlay; `--limited` has each command in a control
group.

After each kill nothing of the build may run or be mounted; the next build must give the image that an
undisturbed one gives, must leave `tmp/` of the store empty and no control group, and every layer in the store
must have the digest that it is named by.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import scene

sys.path.insert(0, scene.REPOSITORY)

from tests.rootless_fixtures.user import User

_HASH = """
import sys
from builder import userns
from cache.errors import CacheError
from cache.store import Store
userns.enter()
with Store.open(sys.argv[1]) as store:
    for layer in store.layers.all():
        try:
            store.layers.verify(layer.chain_id)
        except CacheError as error:
            print(error)
"""


@dataclass(slots=True)
class Campaign:
    """A recipe, its undisturbed image and time, and what went wrong so far."""

    directory: str
    recipe: str
    environment: dict[str, str]
    random: random.Random
    user: User | None = None
    snapshotter: str = "auto"
    limits: tuple[str, ...] = ()
    image: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    struck: int = 0
    """Kills that hit a running build."""

    def command(self, root: str, *options: str) -> list[str]:
        """Return what builds into the store at `root`."""
        options = (*options, "--snapshotter", self.snapshotter, *self.limits)
        if self.user is None:
            return scene.build_command(self.recipe, root, *options)
        words = [self.inside(word) for word in scene.build_command(self.recipe, root, *options)]
        return self.user.command(*words, SOURCE_DATE_EPOCH=self.environment["SOURCE_DATE_EPOCH"])

    def inside(self, path: str) -> str:
        """Return what the user calls `path`."""
        return path if self.user is None else path.replace(self.user.home, "/home/tess")

    def build(self, root: str) -> subprocess.CompletedProcess[str]:
        """Build to the end; the id goes to a file, so that nothing printed is taken for it."""
        return subprocess.run(
            self.command(root, "--iidfile", f"{root}.id"),
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
                self.command(root),
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
        if self.limits and (groups := left_groups()):
            self.faults.append(f"{done}: control groups are left: {groups}")
        self.faults += [f"{done}: {fault}" for fault in self.unsound(root)]
        self.look(f"{done}, then a whole build")

    def unsound(self, root: str) -> list[str]:
        """Return what is wrong with the layers of a store: each is hashed anew, by who made it."""
        argv = [sys.executable, "-c", _HASH, self.inside(root)]
        done = subprocess.run(
            self.user.command(*argv) if self.user is not None else argv,
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        return [*done.stdout.splitlines(), *([done.stderr] if done.returncode else [])]


def left_groups() -> list[str]:
    """Return the control groups of launchers that are dead."""
    from builder import cgroups

    return [
        f"{place.directory}/{name}"
        for place in set(cgroups.controllers().values())
        for name in os.listdir(place.directory)
        if re.fullmatch(r"pybuild-\d+-\d+-\d+", name) and not os.path.exists(f"/proc/{name.split('-')[1]}")
    ]


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def run(kills: int, seed: int, ids: str, snapshotter: str, *, limited: bool) -> int:
    """Kill `kills` times, in stores that bear up to three kills each. Returns the exit code."""
    scene.become_subreaper()
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pybuild-kills-") as directory:
        user = None
        if ids != "root":
            user = User(directory, subordinate=ids == "subordinate")
            user.fuse = True
            directory = user.home
        context = os.path.join(directory, "context")
        os.mkdir(context)
        campaign = Campaign(
            directory, scene.write_context(context), scene.environment(directory), random.Random(seed), user,
            snapshotter, ("--memory=1g", "--pids-limit=500") if limited else (),
        )  # fmt: skip
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
    arguments.add_argument("--ids", choices=("root", "subordinate", "single"), default="root")
    arguments.add_argument(
        "--snapshotter", choices=("auto", "overlay", "fuse-overlayfs", "copy"), default="auto"
    )
    arguments.add_argument("--limited", action="store_true")
    given = arguments.parse_args()
    if os.geteuid() != 0:
        sys.exit("kills.py: run this as root, which can become any user")
    sys.exit(run(given.kills, given.seed, given.ids, given.snapshotter, limited=given.limited))
