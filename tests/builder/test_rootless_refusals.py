"""What a step with USER may not do where there is a single id: what root's build would refuse it, and no
more.
"""

from __future__ import annotations

import time

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.rootless_fixtures import scene
from tests.rootless_fixtures.user import User

FILES = f"""\
{scene.BASE}
RUN chown 1000:1001 /home/app; chmod 755 /home/app; touch /tmp/roots; touch /tmp/others; chown 5:5 /tmp/others
RUN echo s > /secret; chmod 600 /secret; mkdir /root; echo x > /root/x; chmod 700 /root
RUN echo g > /group; chgrp 100 /group; chmod 640 /group; echo o > /other; chown 5:5 /other; chmod 604 /other
RUN mkdir /shared /deep /deep/er; chgrp 100 /shared; chmod 2775 /shared; chmod 666 /deep/er
RUN cp /bin/busybox /tool; chmod 700 /tool; echo a > /append; chown app /append; chmod 444 /append
RUN mkdir -m 711 /pass; echo p > /pass/p; mkdir /theirs; chown 5:5 /theirs; chmod 733 /theirs
RUN echo '#!/bin/sh' > /script
"""
TRIES = r"""
t() { "$@" >/tmp/out 2>&1; echo "$? $*"; cat /tmp/out; }
t id; t id -G; t whoami
t stat -c '%u:%g %a %n' / /etc /etc/passwd /tmp /home/app /secret /group /other /shared /tmp/roots
t cat /secret; t cat /root/x; t ls /root; t cat /group; t cat /other; t ls /pass; t cat /pass/p
t ls /theirs
t test -w /etc/passwd; t test -w /etc; t test -r /etc/passwd; t test -w /home/app; t test -x /tool
t test -r /secret; t test -e /root/x
t /tool true; t /script; t cd /root; t stat /root/x; t cat /deep/er/x; t cat /../root/x
t touch /etc/new; t touch /etc/passwd; t rm -f /etc/passwd; t mv /etc/passwd /tmp/pw
t mv /tmp/roots /tmp/mine
t rm -f /tmp/roots; t rm -f /tmp/others; t rmdir /shared; t mv /etc /tmp/etc; t mkdir /etc/d
t mkfifo /etc/f
t mkdir /tmp/d; t touch /tmp/d/f; t mv /tmp/d/f /tmp/d/g; t ln /tmp/d/g /tmp/d/h; t rm -r /tmp/d
t rm /nowhere
t chmod 777 /etc/passwd; t chown app /etc/passwd; t chown 0 /home/app; t chgrp 100 /home/app
t chgrp 5 /home/app
t chown app:app /home/app; t chmod 750 /home/app; t stat -c '%u:%g %a' /home/app
t ln -s x /etc/l; t ln -s x /tmp/l; t rm /tmp/l; t truncate -s 0 /etc/passwd; t truncate -s 0 /append
t touch -d @1000 /etc/passwd; t touch -d @1000 /append; t sh -c 'echo x >> /etc/passwd'
t sh -c 'echo x >> /append'
cd /home/app; t sh -c 'echo y > y && cat y && mv y z && rm z; mkdir -p a/b/c; touch a/b/c/d; rm -r a'
t touch /shared/new; t mkdir /shared/dir; t stat -c '%u:%g %a %n' /shared/new /shared/dir
t touch /theirs/x; t rm /theirs/x; t cp /bin/busybox own; t chmod 500 own; t test -w own
t ./own sh -c 'exit 3'; t rm -f own
t mknod /tmp/n c 1 3; t mkfifo fifo; t stat -c '%u:%g' fifo; t ls -A /home/app /tmp; t rm fifo
t chmod 700 /home/app
"""

pytestmark = pytest.mark.peer("newuidmap")


def told(pybuild: Pybuild) -> str:
    return pybuild("run", "--rm", "refused", "cat", "/told")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[User, Pybuild]:
    """A user with a single id, and root, who have built the same."""
    directory = tmp_path_factory.mktemp("refused")
    user = User(str(directory), subordinate=False)
    scene.write(user.cwd)
    root = Pybuild(str(directory / "roots-store"), user.cwd)
    text = f"{FILES}RUN touch /told; chown app /told\nCOPY tries.sh /\nUSER app\nRUN sh /tries.sh > /told\n"
    user.write("tries.sh", TRIES)
    ids = [each.build(text, "-t", "refused", SOURCE_DATE_EPOCH=scene.EPOCH) for each in (user, root)]
    assert told(user) == told(root)
    assert ids[0] == ids[1]
    return user, root


def test_a_user_is_refused_what_it_is_in_roots_build(built: tuple[User, Pybuild]) -> None:
    """And is told the same of files, groups and modes."""
    text = told(built[0])
    for line in (
        "1 cat /secret",
        "0 cat /group",
        "1 rm -f /tmp/roots",
        "0 touch /tmp/d/f",
        "1 test -w /etc/passwd",
    ):
        assert f"\n{line}\n" in text, text


def test_so_is_one_in_a_container(built: tuple[User, Pybuild]) -> None:
    """`run`, and `exec` in one that runs: files that one command made belong to the user for the next one."""
    user, _ = built
    tried = "cat /secret || touch /etc/new || test -w /etc || echo refused"
    assert user("run", "--rm", "-u", "app", "refused", "sh", "-c", tried).split() == ["refused"]
    user("run", "-d", "--name", "box", "-u", "app", "refused", "sleep", "1000")
    try:
        user("exec", "box", "sh", "-c", "mkdir /tmp/dir; touch /tmp/dir/file")
        look = "stat -c %U /tmp/dir /tmp/dir/file; rm -r /tmp/dir; " + tried
        assert user("exec", "box", "sh", "-c", look).split() == ["app", "app", "refused"]
        assert user("exec", "-u", "0", "box", "sh", "-c", "cat /secret; id -u").split() == ["s", "0"]
    finally:
        user("rm", "-f", "box")
    for _ in range(100):  # who kept the container has something to clear away still
        if not user.processes():
            break
        time.sleep(0.05)
    assert user.processes() == []


def test_many_threads_of_a_user_have_what_they_make(built: tuple[User, Pybuild]) -> None:
    """A directory that one process is about to make is not forgotten by what another one does meanwhile."""
    user, _ = built
    once = "mkdir $1.$i && touch $1.$i/x && mv $1.$i/x $1.$i/y && rm $1.$i/y && rmdir $1.$i"
    loop = f"for i in $(seq 60); do {once} || exit 1; done"
    script = 'for p in a b c d; do sh -c "$0" sh /tmp/$p & done; for p in a b c d; do wait -n || exit 1; done'
    user("run", "--rm", "-u", "app", "refused", "sh", "-c", script, loop)


def test_a_mount_on_proc_is_no_way_to_the_supervisor(built: tuple[User, Pybuild]) -> None:
    """What a step has at /proc is not what calls are looked at by."""
    user, _ = built
    user.write("fake/1/status", "Tgid:\t1\n")
    text = (
        "FROM refused\nUSER root\nRUN --mount=type=bind,source=fake,target=/proc "
        "chown 7:8 /secret && stat -c %u:%g /secret && ls /proc\n"
    )
    user.write("proc.rec", text)
    done = user.try_("build", "proc.rec", "--progress", "plain")
    assert done.code == 0, done.err
    assert "7:8" in done.err
