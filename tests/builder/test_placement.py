"""COPY: what goes where, and what it leaves alone (LANGUAGE, points 12 to 16; as BuildKit does)."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from pathlib import Path

import pytest

from builder.errors import HostError, PlanError, StepFailed
from tests.build_fixtures.copying import OLD, Copying


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    return Copying(str(tmp_path))


def refused(copying: Copying, line: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        copying.copy(line)
    return caught.value


def test_a_file_goes_to_its_name_or_into_a_directory(copying: Copying) -> None:
    copying.write("f", "x", 0o640)
    os.mkdir(f"{copying.root}/there")
    for line in ("COPY f /a", "COPY f /b/", "COPY f /there", "COPY f /c/d/e", "COPY f ./", "COPY f g/."):
        copying.copy(line, workdir="/w")
    assert copying.files() == {
        "a": "'x' 640",
        "b": "dir 755",
        "b/f": "'x' 640",
        "c": "dir 755",
        "c/d": "dir 755",
        "c/d/e": "'x' 640",
        "there": "dir 755",
        "there/f": "'x' 640",
        "w": "dir 755",
        "w/f": "'x' 640",
        "w/g": "dir 755",
        "w/g/f": "'x' 640",
    }


def test_of_a_directory_its_contents_are_copied(copying: Copying) -> None:
    copying.write("d/one", "1")
    copying.write("d/sub/two", "2", 0o600)
    os.chmod(f"{copying.context}/d", 0o700)
    os.chmod(f"{copying.context}/d/sub", 0o2750)
    os.mkdir(f"{copying.context}/d/empty")
    copying.copy("COPY d /new")
    copying.copy("COPY d/ /slash/")
    assert copying.files("new") == {
        "new": "dir 755",
        "new/empty": "dir 755",
        "new/one": "'1' 644",
        "new/sub": "dir 2750",
        "new/sub/two": "'2' 600",
    }
    assert {path.removeprefix("slash") for path in copying.files("slash")} == {
        path.removeprefix("new") for path in copying.files("new")
    }


def test_the_destination_keeps_what_it_has_and_directories_in_it_take_the_source_s(copying: Copying) -> None:
    os.mkdir(f"{copying.root}/tmp")
    os.chmod(f"{copying.root}/tmp", 0o1777)
    os.chown(f"{copying.root}/tmp", 9, 9)
    os.makedirs(f"{copying.root}/tmp/sub")
    os.chmod(f"{copying.root}/tmp/sub", 0o711)
    copying.write("d/sub/f", "x")
    os.chmod(f"{copying.context}/d/sub", 0o750)
    copying.copy("COPY --chown=3 d /tmp")
    assert copying.files() == {"tmp": "dir 1777 9:9", "tmp/sub": "dir 750 3:3", "tmp/sub/f": "'x' 644 3:3"}


def test_chown_and_chmod(copying: Copying) -> None:
    """A number alone is the group too; both count for what is copied, chown for the parents that it makes."""
    copying.write("etc/passwd", "app:x:1000:1001::/:/bin/sh\n", below=copying.root)
    copying.write("etc/group", "app:x:1001:\nstaff:x:50:\n", below=copying.root)
    copying.write("f", "x", 0o600)
    copying.write("d/sub/g", "y", 0o755)
    copying.copy("COPY --chown=11 --chmod=444 f /p/q/f")
    copying.copy("COPY --chown=app f /name")
    copying.copy("COPY --chown=app:staff f /group")
    copying.copy("COPY --chown=7:8 f /numbers")
    copying.copy("COPY --chmod=u=rwX,go=rX d /sym")
    copying.copy("COPY --chmod=4755 f /suid")
    copying.copy("COPY --chmod=a+x,g-r f /added")
    found = copying.files()
    assert (
        found.items()
        >= {
            "p": "dir 755 11:11",
            "p/q": "dir 755 11:11",
            "p/q/f": "'x' 444 11:11",
            "name": "'x' 600 1000:1001",
            "group": "'x' 600 1000:50",
            "numbers": "'x' 600 7:8",
            "sym/sub": "dir 755",
            "sym/sub/g": "'y' 755",
            "suid": "'x' 4755",
            "added": "'x' 711",
        }.items()
    )


def test_what_is_made_in_a_directory_with_setgid_has_it_too(copying: Copying) -> None:
    """The kernel sees to it, and BuildKit leaves it there: the group too, unless an owner is asked for."""
    os.mkdir(f"{copying.root}/shared")
    os.chown(f"{copying.root}/shared", 5, 50)
    os.chmod(f"{copying.root}/shared", 0o2775)
    copying.write("f", "x")
    copying.copy("COPY f /shared/plain/deep/")
    copying.copy("COPY --chown=7:8 f /shared/owned/")
    found = copying.files("shared/")
    assert found["shared/plain"] == found["shared/plain/deep"] == "dir 2755 0:50"
    assert found["shared/plain/deep/f"] == "'x' 644"
    assert (found["shared/owned"], found["shared/owned/f"]) == ("dir 2755 7:8", "'x' 644 7:8")


def test_what_the_context_s_files_belong_to_is_forgotten_and_a_stage_s_is_kept(copying: Copying) -> None:
    copying.write("d/f", "x")
    os.chown(f"{copying.context}/d/f", 5, 6)
    copying.copy("COPY d /context/")
    copying.copy("COPY d /stage/", owners=True)
    assert copying.files()["context/f"] == "'x' 644"
    assert copying.files()["stage/f"] == "'x' 644 5:6"
    assert copying.files()["stage"] == "dir 755"


def test_setuid_sticky_and_times_survive(copying: Copying) -> None:
    copying.write("d/f", "x", 0o6755)
    os.mkdir(f"{copying.context}/d/s")
    os.chmod(f"{copying.context}/d/s", 0o3777)
    os.symlink("f", f"{copying.context}/d/l")
    os.utime(f"{copying.context}/d/l", (OLD, OLD), follow_symlinks=False)
    os.utime(f"{copying.context}/d/s", (OLD + 1, OLD + 1))
    copying.copy("COPY --chown=5:5 d /d")
    assert copying.files("d/") == {"d/f": "'x' 6755 5:5", "d/s": "dir 3777 5:5", "d/l": "-> f"}
    assert copying.stat("d/f").st_mtime == OLD
    assert copying.stat("d/l").st_mtime == OLD
    assert copying.stat("d/s").st_mtime == OLD + 1


def test_a_directory_that_is_put_into_later_still_has_its_time(copying: Copying) -> None:
    for name in ("a", "b"):
        copying.write(f"{name}/sub/{name}", name)
        os.utime(f"{copying.context}/{name}/sub", (OLD, OLD))
    copying.copy("COPY a b /x/")
    assert copying.stat("x/sub").st_mtime == OLD


def test_symbolic_links(copying: Copying) -> None:
    """One that is named is followed, within the context; one in a directory stays a link."""
    copying.write("real/f", "x")
    os.symlink("real", f"{copying.context}/ld")
    os.symlink("/real/f", f"{copying.context}/lf")
    os.symlink("../../../../real/f", f"{copying.context}/up")
    os.symlink("/etc/passwd", f"{copying.context}/real/out")
    copying.copy("COPY ld /d")
    copying.copy("COPY lf up /files/")
    copying.copy("COPY ld/*f ld/f /wild/")
    assert copying.files() == {
        "d": "dir 755",
        "d/f": "'x' 644",
        "d/out": "-> /etc/passwd",
        "files": "dir 755",
        "files/lf": "'x' 644",
        "files/up": "'x' 644",
        "wild": "dir 755",
        "wild/f": "'x' 644",
    }


def test_a_destination_that_is_a_link_is_followed_inside_of_the_root(copying: Copying) -> None:
    """To a directory, to a file, and to what is not there, which is made."""
    copying.write("f", "new")
    copying.write("d/g", "g")
    root = copying.root
    os.makedirs(f"{root}/usr/lib")
    copying.write("usr/file", "old", below=root)
    os.symlink("usr/lib", f"{root}/lib")
    os.symlink("/usr/file", f"{root}/link")
    os.symlink("../../../../usr/lib", f"{root}/up")
    os.symlink("made/here", f"{root}/dangling")
    os.symlink("/made/file", f"{root}/dangling-file")
    copying.copy("COPY f /lib")
    copying.copy("COPY f /lib/h")
    copying.copy("COPY d /up")
    copying.copy("COPY f /link")
    copying.copy("COPY f /dangling/x")
    copying.copy("COPY f /dangling-file")
    found = {path: what for path, what in copying.files().items() if not what.startswith("dir")}
    assert found == {
        "usr/lib/f": "'new' 644",
        "usr/lib/h": "'new' 644",
        "usr/lib/g": "'g' 644",
        "usr/file": "'new' 644",
        "made/here/x": "'new' 644",
        "made/file": "'new' 644",
        "lib": "-> usr/lib",
        "link": "-> /usr/file",
        "up": "-> ../../../../usr/lib",
        "dangling": "-> made/here",
        "dangling-file": "-> /made/file",
    }


def test_a_link_inside_of_the_destination_directory_is_replaced(copying: Copying) -> None:
    copying.write("d/f", "new")
    copying.write("target", "old", below=copying.root)
    os.mkdir(f"{copying.root}/x")
    os.symlink("../target", f"{copying.root}/x/f")
    copying.copy("COPY d/f /x/")
    assert copying.files() == {"target": "'old' 644", "x": "dir 755", "x/f": "'new' 644"}


def test_a_directory_does_not_replace_a_file_nor_a_file_a_directory(copying: Copying) -> None:
    copying.write("d/name/f", "x")
    copying.write("e/name", "x")
    copying.write("file", "old", below=copying.root)
    copying.write("x/name", "old", below=copying.root)
    os.makedirs(f"{copying.root}/y/name")
    os.makedirs(f"{copying.root}/z/real")
    os.symlink("real", f"{copying.root}/z/name")
    before = copying.files()
    assert refused(copying, "COPY d /file").code == "copy/onto-file"
    assert "'d'" in refused(copying, "COPY d /file/").message
    assert refused(copying, "COPY e/name /file/").code == "copy/onto-file"
    assert refused(copying, "COPY d /x").code == "copy/onto-file"
    assert refused(copying, "COPY d /z").code == "copy/onto-file"
    assert refused(copying, "COPY e /y").code == "copy/onto-directory"
    assert copying.files() == before


def test_links_in_a_circle_are_refused(copying: Copying) -> None:
    copying.write("f", "x")
    os.symlink("b", f"{copying.context}/a")
    os.symlink("a", f"{copying.context}/b")
    os.symlink("b", f"{copying.root}/a")
    os.symlink("a", f"{copying.root}/b")
    for line in ("COPY a /x", "COPY f /a", "COPY f /a/", "COPY f /a/b/c"):
        assert refused(copying, line).code == "copy/links"


def test_hard_links_stay_linked_unless_something_came_in_between(copying: Copying) -> None:
    first = copying.write("a/one", "linked")
    copying.write("b/one", "other")
    os.link(first, f"{copying.context}/a/two")
    os.makedirs(f"{copying.context}/b/sub")
    os.link(first, f"{copying.context}/b/sub/three")
    copying.copy("COPY a /x/")
    assert copying.stat("x/one").st_ino == copying.stat("x/two").st_ino
    copying.copy("COPY a b /y/")
    assert (
        copying.files("y/").items()
        >= {
            "y/one": "'other' 644",
            "y/two": "'linked' 644",
            "y/sub/three": "'linked' 644",
        }.items()
    )


def test_many_links_and_many_matches_do_not_run_out_of_descriptors(copying: Copying) -> None:
    for number in range(200):
        path = copying.write(f"d/{number}", "x")
        os.link(path, f"{copying.context}/d/{number}-too")
        os.makedirs(f"{copying.context}/e/{number}/s")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = max(map(int, os.listdir("/proc/self/fd"))) + 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
    try:
        copying.copy("COPY d /all/")
        copying.copy("COPY d/* /matched/")
        copying.copy("COPY e/* /dirs/")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(copying.files("all/")) == len(copying.files("matched/")) == 400
    assert list(copying.files("dirs/")) == ["dirs/s"]


def test_special_files(copying: Copying) -> None:
    """Fifos are copied, and sockets left out: no layer has them."""
    os.mkdir(f"{copying.context}/d")
    os.mkfifo(f"{copying.context}/d/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{copying.context}/d/socket")
    copying.write("x/socket", "kept", below=copying.root)
    copying.copy("COPY d /x")
    assert copying.files("x/") == {"x/fifo": "special 644", "x/socket": "'kept' 644"}


def test_file_capabilities_and_user_attributes_come_along(copying: Copying) -> None:
    path = copying.write("f", "x")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(path, "security.capability", capability)
    os.setxattr(path, "user.note", b"n")
    os.setxattr(path, "trusted.secret", b"s")
    copying.copy("COPY --chown=3 f /f")
    upper = f"{copying.upper}/f"
    assert os.getxattr(upper, "security.capability") == capability
    assert os.getxattr(upper, "user.note") == b"n"
    assert "trusted.secret" not in os.listxattr(upper)


def test_documents(copying: Copying) -> None:
    os.mkdir(f"{copying.root}/there")
    copying.copy("COPY --chmod=600 --chown=4 <<one <<two /d/\n1\none\ntwo")
    copying.copy("COPY <<EOF /there\nx\nEOF")
    copying.copy("COPY <<EOF /name\ny\nEOF")
    assert copying.files() == {
        "d": "dir 755 4:4",
        "d/one": "'1\\n' 600 4:4",
        "d/two": "'' 600 4:4",
        "name": "'y\\n' 644",
        "there": "dir 755",
        "there/EOF": "'x\\n' 644",
    }


def test_a_file_that_changes_between_key_and_copy_fails_the_build(copying: Copying) -> None:
    """Else its new content would be remembered under the key of the old one."""
    path = copying.write("f", "old")
    tree = copying.tree()
    found = tree.select("f")
    with open(path, "w") as file:
        file.write("new content")
    from builder.placement import Placement, Source, place

    root = os.open(copying.upper, os.O_RDONLY)
    with pytest.raises(HostError) as caught:
        place([Source(tree, found)], (), root, Placement("/f", False, (0, 0)))
    os.close(root)
    tree.close()
    assert caught.value.code == "copy/changed"


def test_an_owner_that_is_not_there(copying: Copying) -> None:
    copying.write("f")
    for owner, says in {
        "nobody-here": "nobody-here",
        "99999999999": "out of range",
        "0:nogroup": "nogroup",
    }.items():
        with pytest.raises(StepFailed, match=says) as caught:
            copying.copy(f"COPY --chown={owner} f /f")
        assert caught.value.code == "step/user"


HOSTILE = {
    "absolute": "/../../../../../../../../",
    "climbing": "../../../../../../../../../../../../",
}


@pytest.mark.parametrize("start", HOSTILE.values(), ids=HOSTILE)
def test_no_link_in_the_destination_leads_out_of_the_root(
    copying: Copying, tmp_path: Path, start: str
) -> None:
    """Whatever a base image holds, what is outside of it stays as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("precious")
    here = str(outside).lstrip("/")
    os.symlink(start + here, f"{copying.root}/dir")
    os.symlink(f"{start}{here}/victim", f"{copying.root}/file")
    os.symlink(f"{start}{here}/new", f"{copying.root}/new")
    os.makedirs(f"{copying.root}/deep/er")
    os.symlink(start + here, f"{copying.root}/deep/er/dir")
    copying.write("victim", "overwritten")
    copying.write("d/victim", "overwritten")
    for line in (
        "COPY victim /dir/",
        "COPY victim /dir",
        "COPY d /dir",
        "COPY d /deep/er/dir/",
        "COPY victim /file",
        "COPY victim /new",
        "COPY victim /dir/../../../../../x",
        "COPY <<victim /dir/\nbad\nvictim",
        "COPY <<EOF /file\nbad\nEOF",
    ):
        copying.copy(line)
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "precious"
    assert copying.files(here)[f"{here}/victim"].startswith("'")


def test_no_link_in_the_source_leads_out_of_the_context(copying: Copying, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    os.symlink("../secret", f"{copying.context}/up")
    os.symlink(tmp_path / "secret", f"{copying.context}/absolute")
    os.symlink("..", f"{copying.context}/dir")
    for source in ("up", "absolute", "dir/secret", "../secret", "dir/../../secret"):
        assert refused(copying, f"COPY {source} /x").code == "copy/missing"
    copying.copy("COPY dir /all")
    assert "all/secret" not in copying.files()


def test_a_copy_onto_nothing_changes_nothing(copying: Copying) -> None:
    copying.copy("COPY nothing* /x/")
    assert copying.files() == {}


def test_a_whole_context_of_odd_names(copying: Copying) -> None:
    for name in ("a b", "-x", "ü", "\udcff", "new\nline", "*", "back\\slash"):
        copying.write(f"d/{name}", "x")
    copying.copy("COPY d /d")
    assert sorted(os.listdir(f"{copying.upper}/d")) == sorted(os.listdir(f"{copying.context}/d"))
    shutil.rmtree(f"{copying.upper}/d")
