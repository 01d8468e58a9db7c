"""Git sources from real servers: what a ref resolves to, what is fetched and what is not, and that a checkout
is the same for the same commit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.errors import FetchError, HostError
from builder.events import Event, TransferStarted
from builder.remotes.address import GitAddress, parse_address, with_checksum
from builder.remotes.fetching import Fetched, Remotes
from cache.store import Store
from tests.remote_fixtures.git_server import FIRST, GitServer, Repository


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served") as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as found:
        yield found


def address_of(text: str) -> GitAddress:
    found = parse_address(text)
    assert isinstance(found, GitAddress)
    return found


class Checked:
    """A checkout: its files as path -> (mode, content or target), its times, what was fetched for it."""

    def __init__(
        self, store: Store, text: str, *, keep: bool = False, checksum: str = "", **remotes: object
    ) -> None:
        from dataclasses import replace

        self.events: list[Event] = []
        address = address_of(text)
        if checksum:
            address = with_checksum(address, checksum)  # type: ignore[assignment]
        if keep:
            address = replace(address, keep_git_dir=True)
        found = Remotes(store, self.events.append, **remotes)  # type: ignore[arg-type]
        self.commit = found.commit(address)
        self.files: dict[str, tuple[int, bytes]] = {}
        self.times: set[int] = set()
        self.git_says = ""
        with store.scratch.directory("git") as staging:
            checkout = found.check_out(address, self.commit, staging.path)
            self.time = checkout.time
            self._look(checkout.path)
            if keep:
                self.git_says = told(checkout.path)
        self.fetched = found.fetched

    def _look(self, top: str) -> None:
        self.times.add(int(os.stat(top).st_mtime))
        for directory, directories, files in os.walk(top):
            for name in (*directories, *files):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                self.times.add(int(status.st_mtime))
                shown = os.path.relpath(path, top)
                if os.path.islink(path):
                    self.files[shown] = (0o777, os.fsencode(os.readlink(path)))
                else:
                    data = b"" if os.path.isdir(path) else Path(path).read_bytes()
                    self.files[shown] = (status.st_mode & 0o7777, data)

    @property
    def transfers(self) -> int:
        return sum(isinstance(event, TransferStarted) for event in self.events)


def told(directory: str) -> str:
    """Return what git, as a user has it, says of a repository."""
    asked = (
        "status --porcelain",
        "log --format=%H",
        "describe --tags --always",
        "remote get-url origin",
        "fsck",
    )
    script = "; ".join(f"git {each}" for each in asked)
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(script, shell=True, cwd=directory, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def repository(server: GitServer) -> Repository:
    """Two commits, a branch `other` at the first one, a tag `v1` with a message and one without, `light`."""
    found = server.repository("main")
    found.commit({"file": "one\n", "dir/program": "#!/bin/sh\n"})
    found.git("branch", "other")
    found.git("tag", "-a", "-m", "the first version", "v1")
    found.git("tag", "light")
    os.chmod(found.path / "dir/program", 0o755)
    os.symlink("dir/program", found.path / "link")
    found.commit({"file": "two\n"})
    return found


def test_refs_are_resolved_as_git_would(server: GitServer, store: Store, repository: Repository) -> None:
    one, two = repository.git("rev-parse", "other"), repository.git("rev-parse", "main")
    for ref, commit in {
        "": two,
        "#main": two,
        "#refs/heads/main": two,
        "#heads/main": two,
        "#other": one,
        "#v1": one,
        "#refs/tags/v1": one,
        "#light": one,
        "?tag=light": one,
        "?branch=other": one,
        f"#{one}": one,
        f"#{one[:8]}": one,
        "#:dir": two,
    }.items():
        assert Checked(store, f"{server.url}/main.git{ref}").commit.id == commit, ref


def test_a_branch_is_preferred_to_a_tag(server: GitServer, store: Store, repository: Repository) -> None:
    repository.git("tag", "both", "other")
    repository.git("branch", "both", "main")
    assert Checked(store, f"{server.url}/main.git#both").commit.ref == "refs/heads/both"
    assert Checked(store, f"{server.url}/main.git?tag=both").commit.ref == "refs/tags/both"


def test_the_default_branch_need_not_be_main(server: GitServer, store: Store, repository: Repository) -> None:
    repository.git("symbolic-ref", "HEAD", "refs/heads/other")
    assert Checked(store, f"{server.url}/main.git").commit.ref == "refs/heads/other"


@pytest.mark.parametrize("ref", ("nothing", "main/file", "deadbeef", "refs/heads/nothing"))
def test_a_ref_that_is_not_there(server: GitServer, store: Store, repository: Repository, ref: str) -> None:
    with pytest.raises(FetchError, match="has no branch or tag") as error:
        Checked(store, f"{server.url}/main.git#{ref}")
    assert (error.value.code, error.value.exit_code) == ("git/ref", 3)


def test_a_commit_that_is_not_there(server: GitServer, store: Store, repository: Repository) -> None:
    with pytest.raises(FetchError, match="has no commit") as error:
        Checked(store, f"{server.url}/main.git#{'0' * 39}1")
    assert error.value.code == "git/ref"


def test_files_are_what_git_has_and_times_are_the_commit_s(
    server: GitServer, store: Store, repository: Repository
) -> None:
    before = os.umask(0o077)
    try:
        found = Checked(store, f"{server.url}/main.git")
    finally:
        os.umask(before)
    assert found.files == {
        "file": (0o644, b"two\n"),
        "dir": (0o755, b""),
        "dir/program": (0o755, b"#!/bin/sh\n"),
        "link": (0o777, b"dir/program"),
    }
    assert found.time == FIRST + 86400
    assert found.times == {found.time}


def test_attributes_of_the_repository_count(server: GitServer, store: Store) -> None:
    """Line ends are as the repository says; a filter (git-lfs) is never run."""
    server.repository("eol").commit(
        {
            ".gitattributes": "*.bat text eol=crlf\n*.bin filter=lfs\n",
            "run.bat": "a\nb\n",
            "data.bin": "version https://git-lfs.github.com/spec/v1\n",
        }
    )
    found = Checked(store, f"{server.url}/eol.git")
    assert found.files["run.bat"][1] == b"a\r\nb\r\n"
    assert found.files["data.bin"][1].startswith(b"version https://git-lfs")


def test_what_is_here_is_not_fetched_again(server: GitServer, store: Store, repository: Repository) -> None:
    first = Checked(store, f"{server.url}/main.git")
    assert first.transfers == 1
    server.requests.clear()
    second = Checked(store, f"{server.url}/main.git")
    assert second.transfers == 0
    assert not any("POST" in each for each in server.requests[2:])
    server.requests.clear()
    whole = Checked(store, f"{server.url}/main.git#{first.commit.id}")
    assert whole.files == first.files
    assert server.requests == []


def test_only_the_commit_is_fetched_and_not_what_was_before(
    server: GitServer, store: Store, repository: Repository
) -> None:
    Checked(store, f"{server.url}/main.git")
    (bare,) = (Path(store.root) / "git").iterdir()
    have = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "--git-dir",
            str(bare),
            "cat-file",
            "-e",
            repository.git("rev-parse", "other"),
        ],
        capture_output=True,
    )
    assert have.returncode != 0
    assert (bare / "shallow").exists()


def test_several_builds_at_once_fetch_once(server: GitServer, tmp_path: Path, repository: Repository) -> None:
    def build(_: int) -> int:
        with Store.open(str(tmp_path / "store")) as store:
            return Checked(store, f"{server.url}/main.git").transfers

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(build, range(4))) == 1


def test_a_moved_branch_is_fetched_anew(server: GitServer, store: Store, repository: Repository) -> None:
    Checked(store, f"{server.url}/main.git")
    later = repository.commit({"file": "three\n"})
    found = Checked(store, f"{server.url}/main.git")
    assert (found.commit.id, found.files["file"][1]) == (later, b"three\n")
    repository.git("reset", "--quiet", "--hard", "other")
    assert Checked(store, f"{server.url}/main.git").files["file"][1] == b"one\n"


def test_an_old_server_and_a_dumb_one_do(
    server: GitServer, store: Store, tmp_path: Path, repository: Repository
) -> None:
    """One that gives no commit that is not at the tip of something; one that is files behind a web server."""
    one = repository.git("rev-parse", "other^{commit}")
    repository.git("branch", "-D", "other")
    repository.git("tag", "-d", "v1", "light")
    server.old = True
    assert Checked(store, f"{server.url}/main.git#{one}").files["file"][1] == b"one\n"
    repository.git("update-server-info")
    with GitServer(server.root, dumb=True) as dumb:
        assert Checked(store, f"{dumb.url}/main.git").files["file"][1] == b"two\n"
        assert Checked(store, f"{dumb.url}/main.git#{one}").files["file"][1] == b"one\n"


def test_a_repository_of_sha256(server: GitServer, store: Store) -> None:
    commit = server.repository("long", form="sha256").commit({"file": "x"})
    found = Checked(store, f"{server.url}/long.git", keep=True)
    assert (found.commit.id, found.files["file"][1]) == (commit, b"x")
    assert commit in found.git_says


def test_a_fetch_that_was_killed_is_no_hindrance(
    server: GitServer, store: Store, repository: Repository
) -> None:
    """It leaves git's own locks behind; and objects that nobody vouches for."""
    Checked(store, f"{server.url}/main.git#other")
    (bare,) = (Path(store.root) / "git").iterdir()
    for name in ("shallow.lock", "config.lock", "refs/pybuild/x.lock"):
        (bare / name).write_text("")
    assert Checked(store, f"{server.url}/main.git").files["file"][1] == b"two\n"


# Subdirectories


def test_subdirectories(server: GitServer, store: Store, repository: Repository) -> None:
    os.symlink("dir", repository.path / "in")
    os.symlink("/etc", repository.path / "out")
    os.symlink("../..", repository.path / "up")
    repository.commit()
    for subdir in ("dir", "in", "/dir/", "./dir"):
        found = Checked(store, f"{server.url}/main.git#main:{subdir}")
        assert found.files.keys() == {"program"}, subdir
        assert found.times == {found.time}
    for subdir, says in {
        "out": "is not there",
        "up": "is not there",
        "file": "is no directory",
        "none": "is not there",
        "up/store": "is not there",
    }.items():
        with pytest.raises(FetchError, match=says) as error:
            Checked(store, f"{server.url}/main.git#main:{subdir}")
        assert error.value.code == "git/subdir"


# Checksums and pins


def test_checksums_of_commits(server: GitServer, store: Store, repository: Repository) -> None:
    one, two, tag = (repository.git("rev-parse", ref) for ref in ("other", "main", "v1"))
    url = f"{server.url}/main.git"
    for ref, checksum in (
        ("#main", two),
        ("#main", two[:7]),
        ("", two),
        ("#v1", one),
        ("#v1", tag),
        (f"#{one}", one[:4]),
    ):
        assert Checked(store, url + ref, checksum=checksum).files
    for ref, checksum in (("#main", one), ("", one[:7]), ("#v1", two), (f"#{one}", two)):
        with pytest.raises(FetchError, match="is not what the checksum says") as error:
            Checked(store, url + ref, checksum=checksum)
        assert error.value.code == "git/checksum"
        assert checksum in error.value.message


def test_a_whole_checksum_that_was_seen_to_be_right_is_not_asked_for_again(
    server: GitServer, store: Store, repository: Repository
) -> None:
    two = repository.git("rev-parse", "main")
    Checked(store, f"{server.url}/main.git#main", checksum=two)
    server.requests.clear()
    Checked(store, f"{server.url}/main.git#main", checksum=two)
    assert server.requests == []
    # Another ref is another claim.
    with pytest.raises(FetchError):
        Checked(store, f"{server.url}/main.git#other", checksum=two)


def test_what_was_fetched_is_told_and_can_be_pinned(
    server: GitServer, store: Store, repository: Repository
) -> None:
    one, two = repository.git("rev-parse", "other"), repository.git("rev-parse", "main")
    url = f"{server.url}/main.git"
    found = Checked(store, f"{url}#main")
    assert found.fetched == (Fetched("git", f"{url}#main", two, False),)
    assert Checked(store, f"{url}#{two}").fetched == (Fetched("git", f"{url}#{two}", two, True),)
    server.requests.clear()
    asked: list[tuple[str, str]] = []

    def pinned(kind: str, reference: str) -> str:
        asked.append((kind, reference))
        return one

    locked = Checked(store, f"{url}#main", pinned=pinned)
    assert (locked.commit.id, locked.files["file"][1]) == (one, b"one\n")
    assert ("git", f"{url}#main") in asked
    assert not any("ls-refs" in each for each in server.requests)


# A kept .git


def test_a_kept_git_directory_is_a_repository_and_always_the_same(
    server: GitServer, store: Store, tmp_path: Path, repository: Repository
) -> None:
    one, tag = repository.git("rev-parse", "other"), repository.git("rev-parse", "v1")
    user = server.url.replace("http://", "http://user:s3cret@")
    found = Checked(store, f"{user}/main.git#v1", keep=True)
    assert found.git_says.split("\n")[:3] == [
        one,
        "v1",
        server.url.replace("http://", "http://xxxxx@") + "/main.git",
    ]
    assert found.files[".git/refs/tags/v1"][1].decode().strip() == tag
    assert found.fetched[0].pin == f"{one} refs/tags/v1 {tag}"
    assert not any(b"s3cret" in data for _, data in found.files.values())
    assert found.times == {found.time}
    # In another store, after another history, with another umask.
    before = os.umask(0o027)
    try:
        with Store.open(str(tmp_path / "other")) as other:
            Checked(other, f"{user}/main.git")
            again = Checked(other, f"{user}/main.git#v1", keep=True)
    finally:
        os.umask(before)
    assert again.files == found.files


def test_git_is_kept_of_a_whole_repository_only(
    server: GitServer, store: Store, repository: Repository
) -> None:
    found = Checked(store, f"{server.url}/main.git#main:dir")
    assert ".git" not in found.files
    assert ".git" not in Checked(store, f"{server.url}/main.git").files


# Submodules


@pytest.fixture
def nested(server: GitServer) -> Repository:
    """`outer` has `middle` at mods/middle, by a relative URL, and that has `inner` at inner, by an
    absolute one.
    """
    inner, middle, outer = (server.repository(name) for name in ("inner", "middle", "outer"))
    inner.commit({"deep": "deep\n"})
    middle.git("submodule", "--quiet", "add", str(inner.path), "inner")
    middle.git("config", "-f", ".gitmodules", "submodule.inner.url", f"{server.url}/inner.git")
    middle.commit({"file": "middle\n"})
    outer.git("submodule", "--quiet", "add", str(middle.path), "mods/middle")
    outer.git("config", "-f", ".gitmodules", "submodule.mods/middle.url", "../middle.git")
    outer.commit({"file": "outer\n", "other/file": "other\n"})
    return outer


def test_submodules_are_checked_out_all_the_way_down(
    server: GitServer, store: Store, nested: Repository
) -> None:
    found = Checked(store, f"{server.url}/outer.git")
    assert found.files["mods/middle/file"][1] == b"middle\n"
    assert found.files["mods/middle/inner/deep"][1] == b"deep\n"
    assert not any(os.path.basename(path) == ".git" for path in found.files)
    assert found.times == {found.time}


def test_submodules_may_be_left_out(server: GitServer, store: Store, nested: Repository) -> None:
    found = Checked(store, f"{server.url}/outer.git?submodules=false")
    assert found.files["mods/middle"] == (0o755, b"")
    assert found.transfers == 1


def test_only_the_submodules_of_a_subdirectory_are_fetched(
    server: GitServer, store: Store, nested: Repository
) -> None:
    assert Checked(store, f"{server.url}/outer.git#main:other").transfers == 1
    assert Checked(store, f"{server.url}/outer.git#main:mods").files.keys() >= {
        "middle/file",
        "middle/inner/deep",
    }
    assert Checked(store, f"{server.url}/outer.git#main:mods/middle/inner").files.keys() == {"deep"}


def test_a_submodule_that_is_not_to_be_updated(server: GitServer, store: Store, nested: Repository) -> None:
    nested.git("config", "-f", ".gitmodules", "submodule.mods/middle.update", "none")
    nested.commit()
    assert Checked(store, f"{server.url}/outer.git").files["mods/middle"] == (0o755, b"")


# Who may


def test_credentials_of_the_url_are_used_and_told_nobody(
    server: GitServer, store: Store, repository: Repository
) -> None:
    server.password = "user:p:ss/w ord"
    url = server.url.replace("http://", "http://user:p%3Ass%2Fw%20ord@")
    assert Checked(store, f"{url}/main.git").files
    kept = subprocess.run(
        ["grep", "-r", "w ord\\|w%20ord\\|cDpz", store.root], capture_output=True, text=True
    )
    assert kept.stdout == ""
    with pytest.raises(FetchError) as error:
        Checked(store, f"{server.url}/main.git#other")
    assert error.value.code == "git/refused"
    assert "GIT_AUTH_TOKEN" in (error.value.hint or "")


def test_a_token_is_a_secret_of_the_build(server: GitServer, store: Store, repository: Repository) -> None:
    server.password = "x-access-token:t0ken"
    secrets = {f"GIT_AUTH_TOKEN.127.0.0.1:{server.port}": b"t0ken\n"}
    assert Checked(store, f"{server.url}/main.git", secrets=secrets.get).files
    assert Checked(store, f"{server.url}/main.git#other", secrets={"GIT_AUTH_TOKEN": b"t0ken"}.get).files
    header = {"GIT_AUTH_HEADER": b"Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="}
    assert Checked(store, f"{server.url}/main.git#v1", secrets=header.get).files


def test_nobody_is_there(server: GitServer, store: Store) -> None:
    with pytest.raises(FetchError) as error:
        Checked(store, "http://127.0.0.1:1/main.git")
    assert (error.value.code, error.value.exit_code) == ("fetch/unreachable", 3)
    with pytest.raises(FetchError) as error:
        Checked(store, f"{server.url}/nothing.git")
    assert error.value.code == "git/refused"


def test_without_git_it_is_said(store: Store) -> None:
    with pytest.raises(HostError) as error:
        Checked(store, "http://127.0.0.1:1/main.git", environ={"PATH": "/nonexistent"})
    assert error.value.code == "host/git"


def test_what_a_user_has_configured_is_not_run(
    server: GitServer, store: Store, tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / ".gitconfig").write_text(
        f"[core]\n\tfsmonitor = touch {mark}\n\thooksPath = {tmp_path}/hooks\n\tsshCommand = touch {mark}\n"
        f'[filter "x"]\n\tsmudge = touch {mark}; cat\n[credential]\n\thelper = "!touch {mark};"\n'
        f'[url "ext::touch {mark}"]\n\tinsteadOf = {server.url}\n'
    )
    (tmp_path / "hooks").mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (tmp_path / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (tmp_path / "hooks" / hook).chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {mark}")
    monkeypatch.setenv("GIT_ASKPASS", f"{tmp_path}/hooks/post-checkout")
    monkeypatch.setenv("GIT_DIR", str(repository.path / ".git"))
    repository.commit({".gitattributes": "* filter=x\n"})
    assert Checked(store, f"{server.url}/main.git").files["file"][1] == b"two\n"
    with pytest.raises(FetchError):
        Checked(store, "ssh://git@127.0.0.1:1/main.git")
    assert not mark.exists()


# Pruning


def test_repositories_are_pruned_unless_a_build_holds_them(
    server: GitServer, store: Store, repository: Repository
) -> None:
    from cache.gc import prune
    from cache.prunepolicy import Policy

    Checked(store, f"{server.url}/main.git")
    address = address_of(f"{server.url}/main.git")
    (bare,) = (Path(store.root) / "git").iterdir()
    assert [item.kind for item in prune(store, [Policy(older_than=3600)]).items] == []
    (planned,) = prune(store, dry_run=True).items
    assert (planned.kind, planned.title) == ("repository", f"{server.url}/main.git")
    assert planned.size > 0
    repositories = Remotes(store, lambda event: None)._repositories()[0]
    with repositories.repository(address, repositories.resolve(address)):
        assert prune(store).items == ()
        assert bare.is_dir()
    assert [item.kind for item in prune(store).items] == ["repository"]
    assert not bare.exists()
    assert Checked(store, f"{server.url}/main.git").transfers == 1
