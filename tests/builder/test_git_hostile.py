"""Repositories that mean harm: nothing is written out of the checkout, nothing of theirs is run, and it is
said what was refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import FetchError
from builder.remotes.address import GitAddress, parse_address
from builder.remotes.fetching import Remotes
from cache.store import Store
from tests.remote_fixtures.git_server import GitServer, Repository


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served") as found:
        yield found


class Victim:
    """A store in a directory of which everything is looked at after a checkout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "outside").mkdir()
        self.store = str(directory / "store")

    def check_out(self, url: str, *, keep: bool = False) -> set[str]:
        """Check out; return the paths of what came. Raises FetchError."""
        from dataclasses import replace

        address = parse_address(url)
        assert isinstance(address, GitAddress)
        address = replace(address, keep_git_dir=keep)
        with Store.open(self.store) as store, store.scratch.directory("git") as staging:
            remotes = Remotes(store, lambda event: None)
            found = remotes.check_out(address, remotes.commit(address), staging.path)
            assert found.path == f"{staging.path}/tree"
            return {
                os.path.relpath(os.path.join(directory, name), found.path)
                for directory, directories, files in os.walk(found.path)
                for name in (*directories, *files)
            }

    @property
    def is_unharmed(self) -> bool:
        return os.listdir(self.directory / "outside") == [] and os.listdir(f"{self.store}/tmp") == []


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    (tmp_path / "victim").mkdir()
    return Victim(tmp_path / "victim")


def test_names_that_would_be_git_s_own_or_lead_out_are_refused(server: GitServer, victim: Victim) -> None:
    for number, name in enumerate((".git", ".GIT", "..", ".", "git~1", ".git ", ".g\u200cit")):
        repository = server.repository(f"name{number}")
        blob = repository.blob("[core]\n\tfsmonitor = touch /tmp/never\n")
        tree = repository.git("mktree", stdin=f"100644 blob {blob}\tconfig\n")
        repository.tree(f"040000 tree {tree}\t{name}\n100644 blob {blob}\tfile\n")
        with pytest.raises(FetchError) as error:
            victim.check_out(f"{server.url}/name{number}.git")
        assert error.value.code == "git/checkout", name
        assert victim.is_unharmed


def test_a_link_that_is_a_directory_too_leads_nowhere(server: GitServer, victim: Victim) -> None:
    repository = server.repository("both")
    link = repository.blob(str(victim.directory / "outside"))
    file = repository.git("mktree", stdin=f"100644 blob {repository.blob('harm')}\tfile\n")
    repository.tree(f"120000 blob {link}\ta\n040000 tree {file}\ta\n")
    try:
        came = victim.check_out(f"{server.url}/both.git")
        assert came <= {"a", "a/file"}
    except FetchError as error:
        assert error.code == "git/checkout"
    assert victim.is_unharmed


def test_links_stay_links(server: GitServer, victim: Victim) -> None:
    repository = server.repository("links")
    os.symlink(victim.directory / "outside", repository.path / "abs")
    os.symlink("../../../../outside", repository.path / "rel")
    repository.commit()
    assert victim.check_out(f"{server.url}/links.git") == {"abs", "rel"}
    assert victim.is_unharmed


def with_submodule(server: GitServer, gitmodules: str, path: str = "sub") -> Repository:
    """A repository whose tree has a submodule at `path`, and says of it what `gitmodules` says."""
    commit = server.repository("target").commit({"file": "x"})
    repository = server.repository("hostile")
    repository.commit({".gitmodules": gitmodules.replace("URL", f"{server.url}/target.git")})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    repository.git("commit", "--quiet", "-m", "a submodule")
    return repository


@pytest.mark.parametrize(
    "url",
    (
        "ext::sh -c touch% /tmp/never",
        "file:///etc",
        "/etc",
        "../../../../../../etc",
        "./../../../../../../../etc",
        "--upload-pack=touch /tmp/never",
        "-u/tmp/x:touch",
        "ssh://-oProxyCommand=touch/x",
        "fd::0",
        "git@-oProxyCommand=touch:x",
    ),
)
def test_a_submodule_is_fetched_by_git_s_protocols_alone(server: GitServer, victim: Victim, url: str) -> None:
    with_submodule(server, f'[submodule "sub"]\n\tpath = sub\n\turl = "{url}"\n')
    with pytest.raises(FetchError) as error:
        victim.check_out(f"{server.url}/hostile.git")
    assert error.value.code in ("git/submodule", "git/refused")
    assert victim.is_unharmed
    assert not os.path.exists("/tmp/never")


def test_a_submodule_s_name_and_settings_mean_nothing(server: GitServer, victim: Victim) -> None:
    with_submodule(
        server,
        '[submodule "../../outside"]\n\tpath = sub\n\turl = URL\n\tupdate = !touch /tmp/never\n'
        "[core]\n\tfsmonitor = touch /tmp/never\n\thooksPath = .\n[include]\n\tpath = /etc/passwd\n",
    )
    assert victim.check_out(f"{server.url}/hostile.git") == {".gitmodules", "sub", "sub/file"}
    assert victim.is_unharmed
    assert not os.path.exists("/tmp/never")


def test_a_submodule_is_at_the_place_that_the_tree_says(server: GitServer, victim: Victim) -> None:
    """`.gitmodules` names another one: the tree's has no URL then."""
    with_submodule(server, '[submodule "sub"]\n\tpath = ../../outside\n\turl = URL\n')
    with pytest.raises(FetchError, match="is not in its") as error:
        victim.check_out(f"{server.url}/hostile.git")
    assert error.value.code == "git/submodule"
    assert victim.is_unharmed


def test_a_submodule_below_a_link(server: GitServer, victim: Victim) -> None:
    """The tree holds a link and, under the same name, a directory with the submodule."""
    commit = server.repository("target").commit({"file": "x"})
    repository = server.repository("hostile")
    modules = repository.blob(f'[submodule "s"]\n\tpath = a/sub\n\turl = {server.url}/target.git\n')
    link = repository.blob(str(victim.directory / "outside"))
    below = repository.git("mktree", "--missing", stdin=f"160000 commit {commit}\tsub\n")
    repository.tree(f"100644 blob {modules}\t.gitmodules\n120000 blob {link}\ta\n040000 tree {below}\ta\n")
    try:
        victim.check_out(f"{server.url}/hostile.git")
    except FetchError as error:
        assert error.code in ("git/submodule", "git/checkout")
    assert victim.is_unharmed


def test_gitmodules_that_is_a_link_or_nonsense(server: GitServer, victim: Victim) -> None:
    commit = server.repository("target").commit({"file": "x"})
    for number, entry in enumerate(("120000 blob {link}", "100644 blob {nonsense}", "040000 tree {tree}")):
        repository = server.repository(f"modules{number}")
        named = {
            "link": repository.blob("/etc/passwd"),
            "nonsense": repository.blob("[submodule \x00\x01\n]]"),
            "tree": repository.git("mktree", stdin=""),
        }
        repository.tree(f"{entry.format(**named)}\t.gitmodules\n160000 commit {commit}\tsub\n")
        with pytest.raises(FetchError) as error:
            victim.check_out(f"{server.url}/modules{number}.git")
        assert error.value.code in ("git/submodule", "git/checkout")
        assert victim.is_unharmed


def test_a_kept_git_directory_has_no_hook_and_no_foreign_setting(server: GitServer, victim: Victim) -> None:
    repository = server.repository("hooks")
    repository.commit({"hooks/post-checkout": "#!/bin/sh\ntouch /tmp/never\n", "config": "[core]\n"})
    came = victim.check_out(f"{server.url}/hooks.git", keep=True)
    assert {path for path in came if path.startswith(".git/") and "/objects" not in path} == {
        ".git/HEAD",
        ".git/config",
        ".git/index",
        ".git/info",
        ".git/refs",
        ".git/refs/heads",
        ".git/refs/heads/main",
        ".git/refs/tags",
    }


def test_a_server_that_lies_about_a_commit_is_found_out(server: GitServer, victim: Victim) -> None:
    """git names objects by their content: whatever a server sends, it is the commit that was asked for."""
    repository = server.repository("liar")
    commit = repository.commit({"file": "good"})
    other = repository.commit({"file": "bad"})
    objects = repository.path / ".git/objects"
    good, bad = (objects / each[:2] / each[2:] for each in (commit, other))
    good.chmod(0o644)
    good.write_bytes(bad.read_bytes())
    with pytest.raises(FetchError):
        victim.check_out(f"{server.url}/liar.git#{commit}")
    assert victim.is_unharmed
