"""ADD of URLs and git repositories: what comes into the image, under which key, and what is asked for it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import FetchError, PlanError
from builder.events import StepStarted
from tests.build_fixtures.project import Project
from tests.command_fixtures.pybuild import Pybuild
from tests.remote_fixtures.git_server import FIRST, GitServer, Repository
from tests.remote_fixtures.http_server import HttpServer

BODY = b"what is behind the URL\n"
SHA256 = "sha256:" + hashlib.sha256(BODY).hexdigest()
DATE, SECONDS = "Wed, 21 Oct 2015 07:28:00 GMT", 1_445_412_480


@pytest.fixture
def web() -> Iterator[HttpServer]:
    with HttpServer() as found:
        yield found


@pytest.fixture
def git(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served") as found:
        yield found


@pytest.fixture
def repository(git: GitServer) -> Repository:
    found = git.repository("tool")
    found.commit({"README": "read\n", "src/run.sh": "#!/bin/sh\n"})
    found.path.joinpath("src/run.sh").chmod(0o755)
    found.commit({"README": "read me\n"})
    found.git("tag", "-a", "-m", "one", "v1")
    return found


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("sub/file")
        info.size, info.mode, info.uid, info.mtime = 3, 0o640, 7, 1_000_000_000
        tar.addfile(info, io.BytesIO(b"tar"))
    return gzip.compress(out.getvalue(), mtime=0)


def test_a_file_has_the_name_of_its_url_and_buildkit_s_mode_and_time(
    project: Project, web: HttpServer
) -> None:
    url = web.serve("/dir/file.txt?sig=1", BODY, modified=DATE)
    outcome = project.build(
        f"FROM base\nADD {url} /into/\nADD {url} /as\nADD --chmod=755 --chown=3:4 {url} /x/run\n"
    )
    found = project.files(outcome)
    for path, mode, owner in (
        ("into/file.txt", 0o600, (0, 0)),
        ("as", 0o600, (0, 0)),
        ("x/run", 0o755, (3, 4)),
    ):
        status = found[path]
        assert (stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)) == (mode, owner)
        assert status.st_mtime == SECONDS
        assert project.read(outcome, path) == BODY
    assert len(web.seen) == 1
    assert outcome.image.history[-3].created_by == f"ADD {url} /into/ # pybuild"


def test_a_directory_that_is_there_takes_the_file(project: Project, web: HttpServer) -> None:
    url = web.serve("/file.txt", BODY)
    outcome = project.build(f"FROM base\nRUN mkdir /there\nADD {url} /there\n")
    assert project.read(outcome, "there/file.txt") == BODY


def test_a_url_without_a_name(project: Project, web: HttpServer) -> None:
    outcome = project.build(
        f"FROM base\nADD {web.serve('/', BODY)} /into/\nADD {web.serve('/*', BODY)} /star/\n"
    )
    assert project.read(outcome, "into/__unnamed__") == BODY
    assert project.read(outcome, "star/*") == BODY


def test_an_archive_is_unpacked_only_where_that_is_asked(project: Project, web: HttpServer) -> None:
    url, plain = web.serve("/a.tar.gz", archive()), web.serve("/plain", BODY)
    outcome = project.build(
        f"FROM base\nADD {url} /kept/\nADD --unpack=false {url} /too/\n"
        f"ADD --unpack=true {url} {plain} /unpacked/\n"
    )
    assert project.read(outcome, "kept/a.tar.gz") == project.read(outcome, "too/a.tar.gz") == archive()
    status = project.files(outcome)["unpacked/sub/file"]
    assert (status.st_mode & 0o7777, status.st_uid, status.st_mtime) == (0o640, 7, 1_000_000_000)
    assert project.read(outcome, "unpacked/plain") == BODY


def test_sources_may_be_mixed_and_the_last_one_counts(
    project: Project, web: HttpServer, git: GitServer, repository: Repository
) -> None:
    project.write("README", "local")
    url = web.serve("/README", BODY)
    repo = f"{git.url}/tool.git"
    for order, content in (
        (f"README {url} {repo}", b"read me\n"),
        (f"{repo} README {url}", BODY),
        (f"{url} {repo} README", b"local"),
    ):
        assert project.read(project.build(f"FROM base\nADD {order} /into/\n"), "into/README") == content


def test_what_is_the_same_hits_wherever_it_is_from(project: Project, web: HttpServer) -> None:
    text = "FROM base\nADD {} /f\n"
    project.build(text.format(web.serve("/one/file", BODY, etag='"a"')))
    assert project.build(text.format(web.serve("/one/file", BODY, etag='"b"'))).outcomes == ["cached"]
    assert project.build(text.format(web.serve("/two/file", BODY))).outcomes == ["cached"]
    changed = project.build(text.format(web.serve("/two/file", b"other")))
    assert changed.outcomes == ["ran"]
    assert changed.reasons == ["ADD file changed"]
    # Its name goes into the image, so it goes into the key.
    assert project.build(text.format(web.serve("/two/name", b"other"))).outcomes != ["cached"]


def test_with_a_checksum_a_hit_takes_no_network(project: Project, web: HttpServer) -> None:
    text = f"FROM base\nADD --checksum={SHA256} {web.serve('/file', BODY)} /f\n"
    assert project.build(text).outcomes == ["ran"]
    web.stop()
    assert project.build(text).outcomes == ["cached"]
    # Nor does another place in the recipe, since the body is in the store.
    assert project.build(text + text.partition("\n")[2].replace(" /f", " /g")).outcomes == ["cached", "ran"]


def test_a_wrong_checksum_has_its_place_in_the_recipe(project: Project, web: HttpServer) -> None:
    wrong = "sha256:" + "0" * 64
    with pytest.raises(FetchError) as error:
        project.build(f"FROM base\nADD --checksum={wrong} {web.serve('/file', BODY)} /f\n")
    assert error.value.code == "fetch/checksum"
    assert error.value.span is not None
    assert error.value.span.line == 2


# Repositories


def test_a_repository_is_added_without_its_git(
    project: Project, git: GitServer, repository: Repository
) -> None:
    outcome = project.build(
        f"FROM base\nADD {git.url}/tool.git#v1 /src\nADD --chown=3:4 {git.url}/tool.git#main:src /bin2/\n"
    )
    found = project.files(outcome, "src")
    assert found.keys() == {"src", "src/README", "src/src", "src/src/run.sh"}
    assert [oct(found[path].st_mode & 0o7777) for path in sorted(found)] == [
        "0o755",
        "0o644",
        "0o755",
        "0o755",
    ]
    assert {status.st_mtime for path, status in found.items() if path != "src"} == {FIRST + 86400}
    other = project.files(outcome, "bin2")["bin2/run.sh"]
    assert (other.st_uid, other.st_gid) == (3, 4)
    assert outcome.image.history[-2].created_by == f"ADD {git.url}/tool.git#v1 /src # pybuild"


@pytest.mark.parametrize(
    "how",
    (
        "ADD --keep-git-dir=true URL /src",
        "ADD URL?keep-git-dir=true /src",
        "ADD --keep-git-dir URL?keep-git-dir=1 /src",
    ),
)
def test_its_git_can_be_kept(project: Project, git: GitServer, repository: Repository, how: str) -> None:
    outcome = project.build(f"FROM base\n{how.replace('URL', f'{git.url}/tool.git')}\n")
    assert project.read(outcome, "src/.git/HEAD").decode().strip() == repository.git("rev-parse", "HEAD")
    again = project.build(f"FROM base\n{how.replace('URL', f'{git.url}/tool.git')}\n")
    assert again.outcomes == ["cached"]


def test_the_same_files_of_another_commit_hit(
    project: Project, git: GitServer, repository: Repository
) -> None:
    text = f"FROM base\nADD {git.url}/tool.git#main:src /src\n"
    project.build(text)
    repository.commit({"README": "unrelated\n"})
    assert project.build(text).outcomes == ["cached"]
    repository.commit({"src/new": "related\n"})
    missed = project.build(text)
    assert missed.outcomes == ["ran"]
    assert missed.reasons == ["ADD tool changed: new (new)"]


def test_a_commit_that_was_built_takes_no_network(
    project: Project, git: GitServer, repository: Repository
) -> None:
    commit = repository.git("rev-parse", "main")
    text = (
        f"FROM base\nADD {git.url}/tool.git#{commit} /a\nADD --checksum={commit} {git.url}/tool.git#main /b\n"
    )
    project.build(text)
    git.requests.clear()
    assert project.build(text).outcomes == ["cached", "cached"]
    assert git.requests == []


def test_a_commit_that_is_not_the_checksum_s(
    project: Project, git: GitServer, repository: Repository
) -> None:
    with pytest.raises(FetchError) as error:
        project.build(f"FROM base\nADD --checksum=0123 {git.url}/tool.git#v1 /src\n")
    assert error.value.code == "git/checksum"


# Planning


@pytest.mark.parametrize(
    ("line", "code"),
    (
        ("ADD --checksum=sha256:12 https://h/x /f", "add/checksum"),
        (f"ADD --checksum={SHA256} https://h/x https://h/y /f/", "add/checksum"),
        (f"ADD --checksum={SHA256} local /f", "add/checksum"),
        (f"ADD --checksum={SHA256} https://h/x.git /f", "add/checksum"),
        ("ADD --keep-git-dir https://h/x.git?keep-git-dir=false /f", "git/url"),
        ("ADD https://h/x.git#-x /f", "git/url"),
        ("ADD https://h:x/ /f", "http/url"),
        ("COPY https://h/x /f", "copy/url"),
        ("COPY git@h:x /f", "copy/url"),
    ),
)
def test_what_cannot_be_is_said_before_anything_is_fetched(project: Project, line: str, code: str) -> None:
    with pytest.raises(PlanError) as error:
        project.build(f"FROM base\n{line}\n")
    assert error.value.code == code
    assert error.value.span is not None


def test_credentials_are_in_no_history_no_event_and_no_record(project: Project, web: HttpServer) -> None:
    url = web.serve("/file", BODY).replace("://", "://user:s3cret@")
    outcome = project.build(f"FROM base\nADD {url} /f\n")
    texts = [event.text for event in outcome.events if isinstance(event, StepStarted)]
    assert any("xxxxx@" in text for text in texts)
    assert "s3cret" not in repr(outcome.image) + "".join(texts)
    database = Path(project.store_root)
    for path in database.glob("pybuild.db*"):
        data = path.read_bytes()
        # The recipe itself is kept, parsed: it is the user's own text.
        assert b"s3cret@" not in data.replace(url.encode(), b"")


def plan(pybuild: Pybuild, recipe: str, *argv: str) -> list[dict[str, str]]:
    pybuild.write("test.rec", recipe)
    forecast = json.loads(pybuild("plan", "--format", "json", "test.rec", *argv))
    steps: list[dict[str, str]] = forecast["stages"][-1]["steps"]
    return steps


def test_plan_asks_nobody(pybuild: Pybuild, web: HttpServer, git: GitServer, repository: Repository) -> None:
    commit = repository.git("rev-parse", "HEAD")
    url = web.serve("/file", BODY)
    lines = {
        f"ADD {url} /f": "depends",
        f"ADD --checksum={SHA256} {url} /f": "runs",
        f"ADD {git.url}/tool.git /f": "depends",
        f"ADD {git.url}/tool.git#{commit} /f": "depends",
    }
    for line, outcome in lines.items():
        (step,) = plan(pybuild, f"FROM box\n{line}\n")
        assert (step["outcome"], line) == (outcome, line)
        if outcome == "depends":
            assert step["reason"] == "nobody has looked yet at what it adds"
    assert web.seen == []
    assert git.requests == []
    for line in lines:
        pybuild.build(f"FROM box\n{line}\n")
    seen, asked = len(web.seen), len(git.requests)
    expected = ("depends", "cached", "depends", "cached")
    assert tuple(plan(pybuild, f"FROM box\n{line}\n")[0]["outcome"] for line in lines) == expected
    assert (len(web.seen), len(git.requests)) == (seen, asked)


def test_a_build_that_hits_asks_again_unless_it_is_told_what_to_get(
    pybuild: Pybuild, web: HttpServer
) -> None:
    """The direct way, which compares files, knows nothing of what a server has now."""
    url = web.serve("/file", BODY, etag='"a"')
    first = pybuild.build(f"FROM box\nADD {url} /f\n")
    for _ in range(3):
        assert pybuild.build(f"FROM box\nADD {url} /f\n") == first
    assert len(web.seen) == 4
    web.serve("/file", b"other")
    assert pybuild.build(f"FROM box\nADD {url} /f\n") != first


def test_exit_codes_and_excerpts_without_credentials(pybuild: Pybuild, web: HttpServer) -> None:
    pybuild.write("test.rec", f"FROM box\nADD {web.url.replace('://', '://user:s3cret@')}/gone /f\n")
    done = pybuild.try_("build", "test.rec")
    assert done.code == 3
    assert "status 404" in done.err
    assert "test.rec:2:1" in done.err
    assert "s3cret" not in done.err


def test_stages_fetch_the_same_file_once_and_different_ones_side_by_side(
    project: Project, web: HttpServer
) -> None:
    one, two = web.serve("/one", BODY), web.serve("/two", b"two")
    outcome = project.build(
        f"FROM base\nFROM scratch AS a\nADD {one} /f\nADD {two} /g\n"
        f"FROM scratch AS b\nADD {two} /g\nADD {one} /f\n"
        "FROM base\nCOPY --from=a /f /g /a/\nCOPY --from=b /f /g /b/\n"
    )
    assert project.read(outcome, "a/f") == project.read(outcome, "b/f") == BODY
    assert sorted(each.path for each in web.seen) == ["/one", "/two"]
