"""What a step's command tries on the kernel, the host's processes and devices."""

from __future__ import annotations

import os

from tests.escape_fixtures.case import Case, Group
from tests.escape_fixtures.place import Place
from tests.escape_fixtures.programs import probe


def _probe(place: Place) -> None:
    place.write(f"{place.root}/bin/probe", probe(), 0o755)


def _probe_setuid(place: Place) -> None:
    path = place.write(f"{place.root}/bin/probe", probe(), 0o755)
    os.chmod(path, 0o4755)
    place.write(f"{place.root}/bin/plain", probe(), 0o755)


def _run(*lines: str) -> tuple[str, ...]:
    return tuple(f"FROM base\n{line}\n" for line in lines)


def _tried(name: str, tried: str, instead: str, what: str, **fields: object) -> Case:
    """Return the case of a probe, run as root and as another user."""
    recipes = _run(f"RUN probe {what}\nUSER app\nRUN probe {what} again")
    return Case(name, tried, instead, recipes, _probe, **{"says": "refused", **fields})  # type: ignore[arg-type]


_UNLIMITED = {"subordinate": "host/cgroups", "single": "host/cgroups"}
"""These users have no control groups that they may write to."""

_LINKS = "ln -s OUTSIDE /out; ln -s /proc/1/root/..OUTSIDE /out1; ln -s /proc/self/root/../../..OUTSIDE /out2"
_OWNERS = (
    "for d in /out /out1 /out2 /proc/1/cwd /proc/1/root /proc/self/cwd/../../.. /proc/self/fd/0/..; do "
    "busybox chown 5:5 $d/secret $d/directory $dOUTSIDE/secret; busybox chown -h 5:5 $d/directory/inner; "
    "busybox chmod 777 $d/secret $d/directory; mknod $d/node b 8 0; mkdir $d/new; busybox touch $d/secret; "
    "busybox ln -s x $d/link; mv $d/secret $d/moved; ! stat $d/secret || exit 1; done 2>/dev/null"
)

SANDBOX = Group(
    "A step's command",
    (
        _tried(
            "mount",
            "mount, bind, remount of what is read-only, umount of what is masked, pivot_root; by the old "
            "calls "
            "and the new",
            "EPERM, all of them",
            "mount",
        ),
        _tried(
            "namespaces",
            "a user namespace, where one is root again, by unshare and clone; any other; those of pid 1",
            "EPERM",
            "namespaces",
        ),
        _tried(
            "processes",
            "ptrace, memory, descriptors, root and environment of pid 1, which has more rights",
            "EPERM and EACCES; signals to it are lost",
            "processes",
        ),
        Case(
            "processes-of-the-host",
            "kill -1, signals and /proc for all pids: those of the host's",
            "the pid namespace has the step's own alone",
            _run(
                "RUN test $(ls /proc | grep -c '^[0-9]') -lt 8",
                "RUN for pid in $(seq 2 400); do test $pid = $$ || kill -9 $pid 2>/dev/null || true; done; "
                "echo alive",
            ),
            _probe,
        ),
        _tried(
            "kernel",
            "bpf, perf, io_uring, userfaultfd, kexec, modules, swap, reboot, clock, host name, acct, quota, "
            "kernel "
            "log, fanotify, I/O ports, priorities, core limit",
            "EPERM",
            "kernel",
        ),
        _tried(
            "keyring",
            "the keyrings of root's uid, which are the host's",
            "EPERM: no key can be had",
            "keyring",
        ),
        _tried(
            "handles",
            'open_by_handle_at of the host\'s root directory ("shocker")',
            "EPERM: CAP_DAC_READ_SEARCH is not a step's",
            "handles",
        ),
        _tried(
            "devices",
            "mknod and open of memory, disks, loop devices, terminals, kvm, tun; in /, /tmp, /dev, /dev/shm",
            "a node can be made, and is of no use: everything is nodev",
            "devices",
        ),
        Case(
            "owners-outside",
            "chown, chmod, mknod, stat and their kin through links to the host, /proc/1/root, descriptors, a "
            "chroot and names that change meanwhile: with a single id the builder answers them for the step",
            "names are looked up within the root, and by the descriptors, of the process that asks",
            _run(
                f"RUN {_LINKS}; {_OWNERS}",
                f"RUN {_LINKS}; chmod 777 / /tmp\nUSER app\nRUN {_OWNERS}",
                "RUN ln -s OUTSIDE /away; mkdir -p OUTSIDE; "
                "(while :; do ln -sfn OUTSIDE /x; ln -sfn /proc/1/cwd /x; ln -sfn /tmp /x; done) & "
                "for i in $(seq 100); do chown 5:5 /x/secret /x/directory/inner; mknod /x/n c 1 3; done "
                "2>/dev/null; true",
                f"RUN mkdir -p /jail/bin; cp /bin/busybox /jail/bin; {_LINKS}; ln -s / /jail/up; "
                "/bin/busybox chroot /jail /bin/busybox chown 5:5 /up/../..OUTSIDE/secret "
                "../../..OUTSIDE/secret; "
                "! /bin/busybox chroot /jail /bin/busybox stat ../../..OUTSIDE/secret",
            ),
        ),
        _tried(
            "knobs",
            "writing core_pattern, modprobe, sysrq-trigger, binfmt_misc, uevent_helper, release_agent, "
            "devices.allow, control groups, kcore",
            "read-only, or covered",
            "knobs",
        ),
        _tried(
            "chroot",
            "the classic way out of a chroot: another one, with a directory open outside of it",
            "it ends in the step's own root: the host's is not mounted",
            "chroot OUTSIDE/secret",
        ),
        _tried(
            "descriptors",
            "descriptors that the builder left open; TIOCSTI and TIOCLINUX, which type into its terminal",
            "there are none; streams are pipes and /dev/null",
            "descriptors",
        ),
        _tried(
            "descriptors-limited",
            "the same in a control group of the step's own",
            "the same. Where control groups cannot be written to, limits are an error",
            "descriptors",
            words=("--memory", "200m"),
            otherwise=_UNLIMITED,
        ),
        _tried(
            "foreign-calls",
            "the calls of i386 and x32, which a filter of 64-bit numbers would not see",
            "the same list holds for them",
            "foreign",
        ),
        Case(
            "lingering",
            "daemons that ignore signals, in sessions of their own, left running when the command ends",
            "killed before the result is looked at",
            _run("RUN probe linger", "RUN probe linger & sleep 0.1; exit 3"),
            _probe,
            code=("", "step/failed"),
        ),
        Case(
            "deep-directories",
            "directories deeper than any path can be, made one in the other",
            "an error that says so; they are gone with the step",
            _run(
                "RUN i=0; while [ $i -lt 900 ]; do mkdir longer-than-it-need-be && cd "
                "longer-than-it-need-be; "
                "i=$((i+1)); done"
            ),
            code=None,
        ),
        Case(
            "fork-bomb",
            "as many processes as there can be",
            "with --pids-limit, an error that says so; all are gone with the step",
            _run("RUN i=0; while [ $i -lt 200 ]; do sleep 100 & i=$((i+1)); done"),
            words=("--pids-limit", "30"),
            code="step/pids",
            otherwise=_UNLIMITED,
        ),
        Case(
            "memory-bomb",
            "as much memory as there is",
            "with --memory, an error that says so",
            _run("RUN a=x; while true; do a=$a$a; done"),
            words=("--memory", "64m"),
            code=None,
        ),
        Case(
            "setuid-kept",
            "a set-user-ID program of the image, run by another user",
            "root of the step, as in docker build, with a step's rights; the mode is kept. With a single id "
            "it stays who it is",
            _run("RUN test $(stat -c %a /bin/probe) = 4755\nUSER app\nRUN probe setuid"),
            _probe_setuid,
            says="root of the step",
            otherwise={"single": ""},
        ),
        Case(
            "setuid-not-gained",
            "the same with --security-opt no-new-privileges",
            "the program runs as who started it",
            _run("USER app\nRUN probe setuid && test $(probe setuid | grep -c 'root of the step') = 0"),
            _probe_setuid,
            words=("--security-opt", "no-new-privileges"),
            says="uid 1000",
        ),
        Case(
            "file-capabilities",
            "file capabilities that a step lacks, set by it (CAP_SYS_ADMIN)",
            "the program does not start, or has what a step may have",
            _run(
                "RUN cp /bin/probe /p && ! setfattr -n security.capability "
                "-v 0x0100000200002000000000000000000000000000 /p; /p mount; true"
            ),
            _probe,
        ),
        Case(
            "abstract-socket",
            "an abstract unix socket of the host, in a step without network",
            "ECONNREFUSED: their names belong to the network. With the host's network, which is the default, "
            "they can be reached",
            _run("RUN --network=none probe abstract pybuild-escape-suite"),
            _probe,
            says="refused: an abstract socket",
        ),
        Case(
            "insecure-unasked",
            "RUN --security=insecure, and --mount of secrets and agents that the command line did not give",
            "an error before anything runs",
            _run(
                "RUN --security=insecure true",
                "RUN --mount=type=secret,id=../../../outside/secret,required=true cat /run/secrets/*",
                "RUN --mount=type=ssh,required=true true",
            ),
            code=("run/insecure", "secret/missing", "ssh/missing", "plan/entitlement"),
        ),
        Case(
            "store-seen",
            "the store's own directory, through the mounts that a step has (their sources are in "
            "/proc/mounts)",
            "the paths that it shows are the host's: nothing is there in the step",
            _run("RUN --mount=type=cache,target=/m --mount=target=/n cat /proc/mounts; ! ls PLACE/store"),
        ),
    ),
)
