"""The recipes of recipes/ build, their images run and answer, and a second build runs no step.

They are built once, into one store, from Debian's packages: these tests need a Debian mirror (the one of
this machine's apt), and, for python.rec, PyPI.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pexpect
import pytest
from packaging.requirements import Requirement

from builder.version import VERSION
from tests.exporter_fixtures.podman import Podman
from tests.recipe_fixtures import clone
from tests.registry_fixtures.debian import SUITE, DebianRepository
from tests.registry_fixtures.registry import Registry

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RECIPES = os.path.join(REPOSITORY, "recipes")


@dataclass(frozen=True, slots=True)
class Recipes:
    """A copy of recipes/ and a store of its own to build it in."""

    directory: str
    root: str

    def pybuild(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "builder.main", *arguments]

    def environment(self) -> dict[str, str]:
        """A fixed epoch: a clone's state would otherwise decide what the images are."""
        return {
            **os.environ,
            "PYTHONPATH": REPOSITORY,
            "PYBUILD_ROOT": self.root,
            "SOURCE_DATE_EPOCH": "1700000000",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.pybuild(*arguments),
            cwd=self.directory,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def build(self, recipe: str, tag: str, *options: str) -> Built:
        """Build a recipe, which must succeed."""
        metadata = os.path.join(self.root, f"{tag}.json")
        os.makedirs(self.root, exist_ok=True)
        done = self.run(
            "build",
            recipe,
            "-t",
            tag,
            "--progress",
            "plain",
            "--host-ca",
            "--metadata-file",
            metadata,
            *options,
        )
        assert done.returncode == 0, done.stderr[-8000:]
        with open(metadata, encoding="utf-8") as file:
            found = json.load(file)
        return Built(found["image.id"], found["steps.run"], found["steps.cached"], done.stderr)

    def inspect(self, image: str) -> dict[str, Any]:
        done = self.run("inspect", image)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found[0]

    @contextmanager
    def service(self, image: str, *options: str, port: int | None = None) -> Iterator[str]:
        """Run the image's service and give its base URL.

        It listens on `port` if that is given, or else on the one that it prints, as ours do with PORT=0.
        """
        environment = f"PORT={0 if port is None else port}"
        command = self.pybuild("run", "--rm", "-e", environment, *options, image)
        process = subprocess.Popen(
            command, cwd=self.directory, env=self.environment(), stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            if port is None:
                line = process.stdout.readline()
                found = re.search(r"listening on port (\d+)", line)
                assert found, f"{image} printed {line!r}"
                port = int(found[1])
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"{image} does not stop on SIGTERM") from None


@dataclass(frozen=True, slots=True)
class Built:
    """What the metadata file says of a build, and what the build printed."""

    image_id: str
    ran: int
    cached: int
    output: str


def ask(url: str, *, method: str | None = None, body: bytes | None = None) -> tuple[int, bytes]:
    """Return the status and body of an answer. Waits for a service that does not listen yet."""
    request = urllib.request.Request(url, data=body, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    deadline = time.monotonic() + 30
    while True:
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: object) -> None:
        return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def copied(tmp_path_factory: pytest.TempPathFactory) -> Recipes:
    """Return a copy of the recipes, since a test writes next to them, and an empty store."""
    assert os.geteuid() == 0, "the recipes are built as root: run the tests as root"
    directory = tmp_path_factory.mktemp("recipes")
    copy = str(directory / "recipes")
    shutil.copytree(
        RECIPES, copy, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
    )
    return Recipes(copy, str(directory / "store"))


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Recipes:
    return copied(tmp_path_factory)


@pytest.fixture(scope="session")
def java(recipes: Recipes) -> Built:
    return recipes.build("java.rec", "notes")


@pytest.fixture(scope="session")
def python(recipes: Recipes) -> Built:
    return recipes.build("python.rec", "links")


@pytest.fixture(scope="session")
def static(recipes: Recipes) -> Built:
    return recipes.build("static.rec", "hello")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pybuild.rec copies, which nobody edits meanwhile."""
    directory = str(tmp_path_factory.mktemp("sources"))
    clone.write(directory)
    return directory


@pytest.fixture(scope="session")
def pybuild(recipes: Recipes, sources: str) -> Built:
    return recipes.build("pybuild.rec", "pybuild", "--context", sources)


def test_the_java_service_keeps_notes(recipes: Recipes, java: Built) -> None:
    with recipes.service("notes") as base:
        assert ask(f"{base}/hello?name=Ada") == (200, b'{"greeting":"Hello, Ada!"}')
        assert ask(f"{base}/notes", body=b"milk") == (201, b'{"id":1,"text":"milk"}')
        assert ask(f"{base}/notes/1") == (200, b'{"id":1,"text":"milk"}')
        assert ask(f"{base}/notes/1", method="DELETE")[0] == 204
        assert ask(f"{base}/health") == (200, b'{"status":"up","notes":0}')


def test_the_java_image_says_how_it_is_run(recipes: Recipes, java: Built) -> None:
    config = recipes.inspect("notes")["Config"]
    assert config["User"] == "notes"
    assert config["WorkingDir"] == "/srv"
    assert config["Entrypoint"] == ["java", "-jar", "notes.jar"]
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][-2:] == ["notes.Probe", "/health"]
    assert config["Labels"]["org.opencontainers.image.version"] == "1.0"
    assert "JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64" in config["Env"]


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Recipes:
    return copied(tmp_path_factory)


def test_another_clone_in_another_store_gives_the_same_java_image(java: Built, elsewhere: Recipes) -> None:
    """Other inodes, another time, other directories: the same bytes, for one SOURCE_DATE_EPOCH."""
    built = elsewhere.build("java.rec", "notes")
    assert built.image_id == java.image_id
    assert built.cached == 0


def test_the_java_image_is_the_runtime_and_holds_nothing_of_the_build(recipes: Recipes, java: Built) -> None:
    """Its lowest layers are those of jdk.rec's `jre`, and none is one of the JDK's own."""
    recipes.build("jdk.rec", "jre", "--target", "jre")
    recipes.build("jdk.rec", "jdk")

    def layers(image: str) -> list[str]:
        return list(recipes.inspect(image)["RootFS"]["Layers"])

    runtime, compiler, service = layers("jre"), layers("jdk"), layers("notes")
    assert service[: len(runtime)] == compiler[: len(runtime)] == runtime
    assert not set(service) & set(compiler[len(runtime) :])


def test_tests_of_a_recipe_were_run(java: Built) -> None:
    for name in ("unit tests", "it answers", "java starts", "javac compiles"):
        assert name in java.output


def test_a_failing_java_recipe_is_entered_mended_with_retry_and_finished_with_continue(
    recipes: Recipes, java: Built
) -> None:
    """A step writes into a directory that nothing has made: somebody at a terminal makes it."""
    with open(os.path.join(recipes.directory, "java.rec"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(recipes.directory, "broken.rec"), "w", encoding="utf-8") as file:
        file.write(text.replace("jar.files", "lists/jar.files"))
    failed = recipes.run("build", "broken.rec", "-t", "mended", "--host-ca")
    assert failed.returncode == 1, failed.stderr
    assert "lists/jar.files" in failed.stderr and "`pybuild debug`" in failed.stderr
    environment = {**recipes.environment(), "TERM": "dumb"}
    argv = recipes.pybuild("debug")
    child = pexpect.spawn(
        argv[0],
        argv[1:],
        cwd=recipes.directory,
        env=environment,
        encoding="utf-8",
        timeout=300,
        dimensions=(40, 200),
    )
    prompt = "debug /build> "
    child.expect_exact(prompt)
    for line, answer in (
        ("ls classes/notes", "Main.class"),
        ("mkdir lists", ""),
        ("retry", "it succeeded"),
        ("diff", "A /build/notes.jar"),
    ):
        child.sendline(line)
        child.expect_exact(line)
        child.expect_exact(prompt)
        assert answer in child.before
    child.sendline("continue")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    assert "mended by hand" in child.before
    # The jar is the same, and so is what it was copied to.
    assert recipes.inspect("mended")["RootFS"] == recipes.inspect("notes")["RootFS"]
    with recipes.service("mended") as base:
        assert ask(f"{base}/hello?name=Ada") == (200, b'{"greeting":"Hello, Ada!"}')


def test_the_python_service_keeps_links(recipes: Recipes, python: Built, tmp_path: object) -> None:
    """Its database outlives the container where a volume is given for it."""
    data = str(tmp_path)
    os.chown(data, 902, 902)
    with recipes.service("links", "-v", f"{data}:/data") as base:
        status, answer = ask(base + "/", body=b"https://www.debian.org/")
        slug = json.loads(answer)["slug"]
        assert status == 201
        assert ask(f"{base}/{slug}")[0] == 302
        assert ask(f"{base}/nowhere")[0] == 404
        assert ask(base + "/", body=b"javascript:alert(1)")[0] == 400
    with recipes.service("links", "-v", f"{data}:/data") as base:
        assert ask(f"{base}/health") == (200, b'{"status": "up", "links": 1}')


def test_the_python_image_is_without_a_trace_of_the_host_certificates(
    recipes: Recipes, python: Built
) -> None:
    looked = recipes.run("run", "--rm", "links", "sh", "-c", "env; ls -R /run /usr/local/share")
    assert looked.returncode == 0, looked.stderr
    assert "CERT" not in looked.stdout.upper()
    assert "pybuild" not in looked.stdout


def test_the_static_binary_answers_from_an_image_of_one_file(recipes: Recipes, static: Built) -> None:
    with recipes.service("hello") as base:
        assert ask(base + "/") == (200, b"Hello from a file system that holds one file.\n")
    found = recipes.inspect("hello")
    assert len(found["RootFS"]["Layers"]) == 1
    diff = found["GraphDriver"]["Data"]["UpperDir"]
    assert os.listdir(diff) == ["hello"]


@pytest.fixture(scope="session")
def mirror(recipes: Recipes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mirrored(recipes, tmp_path_factory) as address:
        yield address


@contextmanager
def mirrored(recipes: Recipes, tmp_path_factory: pytest.TempPathFactory, *options: str) -> Iterator[str]:
    """A registry on loopback that has library/debian:bookworm: our own debian.rec, pushed by skopeo."""
    directory = tmp_path_factory.mktemp("mirror")
    archive = str(directory / "debian.oci")
    output = f"type=oci,dest={archive},compression=zstd"
    recipes.build("debian.rec", "debian-base", "--output", output, *options)
    port = free_port()
    config = directory / "config.yml"
    config.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert ask(f"http://127.0.0.1:{port}/v2/")[0] == 200
        target = f"docker://127.0.0.1:{port}/library/debian:bookworm"
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci-archive:{archive}", target],
            check=True,
        )
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def found(recipes: Recipes, mirror: str) -> Built:
    """The Dockerfile, by way of the recipe that tests it, its base from the mirror."""
    return build_found(recipes, mirror)


def build_found(recipes: Recipes, mirror: str, *options: str) -> Built:
    settings = os.path.join(recipes.directory, "mirror.toml")
    with open(settings, "w", encoding="utf-8") as file:
        file.write(f'[registries."docker.io"]\nmirrors = ["http://{mirror}"]\n')
    return recipes.build("found.rec", "site", "--config", settings, *options)


def test_the_found_dockerfile_serves_its_pages(recipes: Recipes, found: Built) -> None:
    with recipes.service("site", port=free_port()) as base:
        assert ask(f"{base}/health") == (200, b"up\n")
        status, page = ask(f"{base}/index.html")
        assert (status, b"<em>markdown</em>" in page) == (200, True)
        assert ask(f"{base}/robots.txt")[0] == 200


def test_the_found_dockerfile_gives_the_config_that_it_asks_for(recipes: Recipes, found: Built) -> None:
    config = recipes.inspect("site")["Config"]
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert config["Volumes"] == {"/var/cache/nginx": {}}
    assert config["StopSignal"] == "SIGQUIT"
    assert config["Labels"]["description"] == "Our site, served by nginx"
    assert config["Cmd"] == ["nginx", "-g", "daemon off;"]
    assert {"PORT=8080", "NGINX_WORKERS=2"} <= set(config["Env"])


@pytest.mark.parametrize(
    ("recipe", "tag"),
    [
        ("java.rec", "notes"),
        ("python.rec", "links"),
        ("static.rec", "hello"),
        ("found.rec", "site"),
        ("pybuild.rec", "pybuild"),
    ],
)
def test_a_second_build_runs_no_step(
    recipes: Recipes, request: pytest.FixtureRequest, recipe: str, tag: str
) -> None:
    fixture = {"notes": "java", "links": "python", "hello": "static", "site": "found"}.get(tag, tag)
    first: Built = request.getfixturevalue(fixture)
    options = ("--context", request.getfixturevalue("sources")) if recipe == "pybuild.rec" else ()
    again = recipes.build(recipe, tag, *options)
    assert (again.ran, again.image_id) == (0, first.image_id)
    assert again.cached > 0


def test_a_change_that_gives_the_same_files_runs_one_step(recipes: Recipes, java: Built) -> None:
    """javac with its options in another order writes the same classes: what comes after it is not run."""
    recipe = os.path.join(recipes.directory, "java.rec")
    with open(recipe, encoding="utf-8") as file:
        text = file.read()
    changed = text.replace("-Xlint:all -Werror", "-Werror -Xlint:all")
    assert changed != text
    with open(recipe, "w", encoding="utf-8") as file:
        file.write(changed)
    try:
        again = recipes.build("java.rec", "reordered")
    finally:
        with open(recipe, "w", encoding="utf-8") as file:
            file.write(text)
    assert (again.ran, again.image_id) == (1, java.image_id)


def test_a_change_of_the_program_installs_nothing_again(recipes: Recipes, java: Built) -> None:
    """What reads the sources runs again; what only installs packages does not."""
    source = os.path.join(recipes.directory, "java", "src", "main", "java", "notes", "NotesServer.java")
    with open(source, encoding="utf-8") as file:
        text = file.read()
    with open(source, "w", encoding="utf-8") as file:
        file.write(text.replace('"Hello, "', '"Good day, "'))
    try:
        changed = recipes.run("build", "java.rec", "-t", "changed", "--progress", "json")
    finally:
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
    # The recipe's own tests expect the old greeting: the build fails, and nothing gets the name.
    assert changed.returncode == 1, changed.stderr
    assert recipes.run("inspect", "changed").returncode != 0
    events = [json.loads(line) for line in changed.stderr.splitlines()]
    lines = {event["step"]: event["text"] for event in events if event["event"] == "step_started"}
    ended = [event for event in events if event["event"] == "step_finished"]
    ran = [lines[event["step"]] for event in ended if event["outcome"] == "ran"]
    assert [line.partition(" ")[0] for line in ran] == ["COPY", "RUN", "RUN"], ran
    assert not any("apt-get" in line for line in ran)
    assert "failed" in [event["outcome"] for event in ended]


def test_another_clone_in_another_store_gives_the_same_image_of_pybuild(
    pybuild: Built, sources: str, elsewhere: Recipes
) -> None:
    """The files of a clone have other times: the wheel, and what is compiled, have none of them."""
    other = os.path.join(elsewhere.directory, "clone")
    shutil.copytree(sources, other, copy_function=shutil.copyfile)
    assert elsewhere.build("pybuild.rec", "pybuild", "--context", other).image_id == pybuild.image_id


def test_the_requirements_of_pybuilds_image_are_those_of_the_project(pybuild: Built) -> None:
    """All of them, in a version that the project takes; and what they want themselves."""
    with open(os.path.join(REPOSITORY, "pyproject.toml"), "rb") as file:
        project = tomllib.load(file)
    pinned: dict[str, str] = {}
    for name in ("requirements.txt", "build-requirements.txt"):
        with open(os.path.join(RECIPES, "pybuild", name), encoding="utf-8") as file:
            pinned |= dict(re.findall(r"^(\S+)==(\S+)", file.read(), re.M))
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["testinfra"]
    for each in map(Requirement, (*wanted, *project["build-system"]["requires"])):
        assert each.specifier.contains(pinned[each.name]), each


RUNNER = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
RUN echo made > /made; chown 5:6 /made
TEST test "$(stat -c %u:%g /made)" = 5:6
"""

NO_FILTER = "--security-opt=seccomp=unconfined"
POD = ("--cap-drop=ALL", "--security-opt=no-new-privileges", NO_FILTER)
"""As the pods of docs/ci: runAsUser, no capabilities, allowPrivilegeEscalation: false."""


class Containers:
    """Runs pybuild's image by podman, as it is, on a volume that podman makes, with `work` at /work."""

    def __init__(self, podman: Podman, work: str) -> None:
        self._podman = podman
        self.work = work

    def __call__(self, *words: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", "run", "--rm", "--network=host", f"--volume={self.work}:/work",
             "--env=SOURCE_DATE_EPOCH=1700000000", *options, "docker.io/library/pybuild", *words],
            env=self._podman.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip


@pytest.fixture(scope="session")
def containers(
    recipes: Recipes, pybuild: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    directory = tmp_path_factory.mktemp("containers")
    archive = str(directory / "pybuild.tar")
    assert recipes.run("save", "pybuild", "-o", archive).returncode == 0
    podman = Podman(str(directory / "podman"))
    try:
        podman("load", "-q", "-i", archive)
        os.unlink(archive)
        work = directory / "work"
        work.mkdir()
        busybox = shutil.which("busybox")
        assert busybox is not None, "busybox-static is not on this machine (make test installs it)"
        shutil.copy(busybox, work)
        (work / "app.rec").write_text(RUNNER)
        yield Containers(podman, str(work))
    finally:
        podman.close()


def test_the_image_of_pybuild_is_pybuild(containers: Containers) -> None:
    assert containers("--version").stdout == f"pybuild {VERSION}\n"
    assert containers().stdout.startswith("usage: pybuild")


@pytest.mark.peer("podman", "runc", "docker-registry", "busybox")
def test_what_a_pod_has_run_containers_of_every_kind_take_from_a_shared_cache(
    containers: Containers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One that has all ids, one that has subordinate ids, and one whose newuidmap can do nothing."""
    with Registry(str(tmp_path_factory.mktemp("registry"))) as registry:
        place = f"type=registry,ref={registry.address}/team/cache"
        os.chmod(containers.work, 0o777)
        assert containers("cache", "keygen", "cache", options=POD).returncode == 0
        first = containers("app.rec", "--cache-to", f"{place},key=./cache.key", options=POD)
        assert first.returncode == 0, first.stderr
        assert "4 steps run, 0 cached" in first.stderr
        for options, ids in (
            (POD, "that id alone (no_new_privs"),
            (("--cap-drop=ALL", NO_FILTER), "that id alone (newuidmap failed)"),
            ((), "with 65534 subordinate ids"),
            (("--uidmap=0:2000000:65536", "--gidmap=0:2000000:65536"), "with 65534 subordinate ids"),
            (("--user=0",), "root of a container"),
        ):
            assert ids in containers("doctor", options=options).stdout, options
            done = containers("app.rec", "--cache-from", f"{place},trust=./cache.pub", options=options)
            assert done.returncode == 0, done.stderr
            assert "0 steps run, 4 cached" in done.stderr, options
            assert done.stdout == first.stdout
            done = containers("app.rec", options=options)
            assert "4 steps run" in done.stderr and done.stdout == first.stdout, done.stderr


@pytest.mark.peer("podman", "runc", "gpg", "dpkg-deb")
@pytest.mark.parametrize("options", [POD, ()], ids=["pod", "defaults"])
def test_a_container_makes_bases_of_packages(
    containers: Containers, options: Sequence[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Though its /proc is masked, so that mmdebstrap can have none of its own."""
    directory = str(tmp_path_factory.mktemp("debian"))
    with DebianRepository(os.path.join(directory, "tiny")) as tiny:
        tiny.publish({"hello": {"usr/bin/hello": b"hi\n"}}, 1_600_000_000)
        shutil.copyfile(tiny.keyring, os.path.join(containers.work, "tiny.gpg"))
        flags = f"--variant=extract --include=hello --mirror={tiny.mirror} --keyring=tiny.gpg"
        with open(os.path.join(containers.work, "base.rec"), "w", encoding="utf-8") as file:
            file.write(f"FROM {flags} mmdebstrap://{SUITE}\nLABEL a=b\n")
        done = containers("base.rec", options=options)
        assert done.returncode == 0, done.stderr
