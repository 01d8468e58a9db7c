"""containers' registries.conf and certs.d: what podman and skopeo heed, pybuild heeds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.errors import RegistryError
from cache.oci.reference import Reference
from cache.registry.registriesconf import files, load
from tests.command_fixtures.pybuild import Done, Pybuild
from tests.registry_fixtures import images
from tests.registry_fixtures.registry import Certificate, Registry, free_port, make_certificate

pytestmark = pytest.mark.peer("docker-registry", "skopeo", "umoci")


class Host:
    """pybuild and skopeo with the same home directory, whose files of configuration are written here."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self.conf = directory / ".config/containers/registries.conf"
        self._pybuild = Pybuild(str(directory / "store"), str(directory))

    def __call__(self, *argv: str) -> Done:
        return self._pybuild.try_(*argv, HOME=str(self.path))

    def write(self, text: str, name: str = "registries.conf") -> None:
        path = self.conf.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def digest(self, name: str) -> str:
        """The digest that both find under `name`."""
        done = self("inspect", "--remote", "--format", "{{.Digest}}", name)
        assert done.code == 0, done.err
        theirs = self.skopeo("inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{name}")
        assert theirs.returncode == 0, theirs.stderr
        assert theirs.stdout == done.out
        return done.out.strip()

    def skopeo(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "HOME": str(self.path)}
        environ.pop("XDG_RUNTIME_DIR", None)
        return subprocess.run(("skopeo", *words), env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class Scene:
    """A registry with team/app:1 and, another image, mirror/app:1; nothing listens on `dead`."""

    def __init__(self, directory: str, registry: Registry) -> None:
        self.address = registry.address
        self.dead = f"localhost:{free_port()}"
        self.layout = images.make_layout(os.path.join(directory, "layout"), [{"a": b"original"}])
        images.make_layout(self.layout, [{"a": b"mirrored"}], tag="mirrored")
        images.push(self.layout, registry, "team/app:1")
        images.push(self.layout, registry, "mirror/app:1", tag="mirrored")
        images.push(self.layout, registry, "library/debian:1", tag="mirrored")
        self.original = images.manifest_digest(self.layout)
        self.mirrored = images.manifest_digest(self.layout, "mirrored")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = os.fspath(tmp_path_factory.mktemp("conf"))
    with Registry(os.path.join(directory, "registry")) as running:
        yield Scene(directory, running)


def _mirror(location: str, more: str = "") -> str:
    return f'[[registry.mirror]]\nlocation = "{location}"\ninsecure = true\n{more}\n'


def test_an_insecure_registry_and_its_mirror(host: Host, scene: Scene) -> None:
    rule = f'[[registry]]\nlocation = "{scene.address}"\ninsecure = true\n'
    host.write(rule)
    assert host.digest(f"{scene.address}/team/app:1") == scene.original
    host.write(
        f'[[registry]]\nprefix = "{scene.address}/team"\nlocation = "{scene.address}/team"\ninsecure = true\n'
        + _mirror(f"{scene.address}/mirror")
    )
    assert host.digest(f"{scene.address}/team/app:1") == scene.mirrored


def test_a_mirror_that_is_down_or_lacks_it_is_passed_over(host: Host, scene: Scene) -> None:
    rule = f'[[registry]]\nlocation = "{scene.address}"\ninsecure = true\n'
    host.write(rule + _mirror(scene.dead) + _mirror(f"{scene.address}/nothing"))
    assert host.digest(f"{scene.address}/team/app:1") == scene.original


@pytest.mark.parametrize(
    ("more", "by_tag", "by_digest"),
    [
        ("", True, True),
        ('pull-from-mirror = "digest-only"', False, True),
        ('pull-from-mirror = "tag-only"', True, False),
    ],
)
def test_a_mirror_is_asked_for_tags_or_digests_as_it_says(
    host: Host, scene: Scene, more: str, by_tag: bool, by_digest: bool
) -> None:
    # Debian's skopeo is older than pull-from-mirror: the rules themselves are asked.
    host.write(f'[[registry]]\nlocation = "{scene.address}"\n' + _mirror("mirror.example", more))
    rule = load({"HOME": str(host.path)}).rule(Reference.parse(f"{scene.address}/team/app"))
    assert rule is not None
    assert rule.mirrors[0].serves(by_digest=False) == by_tag
    assert rule.mirrors[0].serves(by_digest=True) == by_digest


def test_mirror_by_digest_only(host: Host, scene: Scene) -> None:
    rule = f'[[registry]]\nlocation = "{scene.address}/team"\ninsecure = true\nmirror-by-digest-only = true\n'
    host.write(rule + _mirror(f"{scene.address}/mirror"))
    name = f"{scene.address}/team/app"
    assert host.digest(f"{name}:1") == scene.original
    assert host.digest(f"{name}@{scene.mirrored}") == scene.mirrored, "the mirror alone has it"


def test_a_prefix_is_found_at_its_location(host: Host, scene: Scene) -> None:
    host.write(
        f'[[registry]]\nprefix = "registry.example/some"\nlocation = "{scene.address}/team"\n'
        "insecure = true\n"
        f'[[registry]]\nprefix = "registry.example/some/app"\nlocation = "{scene.address}/mirror/app"\n'
        "insecure = true\n"
        f'[[registry]]\nprefix = "docker.io"\nlocation = "{scene.address}"\ninsecure = true\n'
    )
    assert host.digest("registry.example/some/app:1") == scene.mirrored, "the longest prefix counts"
    assert host.digest("docker.io/library/debian:1") == scene.mirrored
    done = host("pull", "registry.example/some/app:1")
    assert done.out == f"Pulled registry.example/some/app:1@{scene.mirrored}\n"


def test_subdomains(host: Host, scene: Scene) -> None:
    host.write('[[registry]]\nprefix = "*.example.com"\nblocked = true\n')
    conf = load({"HOME": str(host.path)})
    for name in ("a.example.com/x", "b.a.example.com:5000/x/y"):
        assert conf.rule(Reference.parse(name)) is not None, name
    for name in ("example.com/x", "aexample.com/x", "a.example.com.org/x", "docker.io/x/a.example.com"):
        assert conf.rule(Reference.parse(name)) is None, name


def test_what_is_blocked_is_neither_pulled_nor_asked(host: Host, scene: Scene) -> None:
    host.write(f'[[registry]]\nlocation = "{scene.address}/team"\nblocked = true\n')
    name = f"{scene.address}/team/app:1"
    done = host("pull", name)
    assert done.code == 3 and "registry/blocked" in done.err and str(host.conf) in done.err
    assert host("inspect", "--remote", f"{scene.address}/mirror/app:1").code == 0
    (host.path / "pybuild.toml").write_text(f'[registries."{scene.address}"]\ninsecure = true\n')
    assert "registry/blocked" in host("pull", name).err, "a file of the working directory does not lift that"


def test_pybuilds_own_configuration_comes_first(host: Host, scene: Scene) -> None:
    host.write(
        f'[[registry]]\nlocation = "{scene.address}/team"\ninsecure = true\n'
        + _mirror(f"{scene.address}/mirror")
    )
    (host.path / "pybuild.toml").write_text(f'[registries."{scene.address}"]\nmirrors = []\n')
    done = host("inspect", "--remote", "--format", "{{.Digest}}", f"{scene.address}/team/app:1")
    assert done.out.strip() == scene.original


def test_drop_ins_and_the_order_of_files(tmp_path: Path) -> None:
    user = tmp_path / "user/containers"
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "user")}
    drop_in = user / "registries.conf.d/10-a.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(
        'unqualified-search-registries = ["drop.example"]\n[aliases]\na = "r.example/b"\nc = ""\n'
    )
    found = list(files(environ))
    assert found[0] == "/etc/containers/registries.conf" and found[-1] == str(drop_in)
    own = user / "registries.conf"
    own.write_text('unqualified-search-registries = ["own.example"]\n[aliases]\nc = "r.example/c"\n')
    assert list(files(environ)) == [str(own), str(drop_in)]
    conf = load(environ)
    assert conf.search == ("drop.example",)
    assert dict(conf.aliases) == {"a": "r.example/b"}, "an empty alias takes an earlier one away"
    explicit = tmp_path / "explicit.conf"
    explicit.write_text('unqualified-search-registries = ["explicit.example"]\n')
    named = {**environ, "CONTAINERS_REGISTRIES_CONF": str(explicit)}
    assert next(files(named)) == str(explicit) and str(own) not in list(files(named))


@pytest.mark.parametrize(
    "text",
    [
        "[[registry]\n",
        "[[registry]]\nblocked = true\n",
        '[[registry]]\nlocation = "https://x.example"\n',
        '[[registry]]\nlocation = "x.example"\ninsecure = "yes"\n',
        '[[registry]]\nlocation = "x.example"\n[[registry.mirror]]\ninsecure = true\n',
        '[[registry]]\nlocation = "x"\n[[registry.mirror]]\nlocation = "y"\npull-from-mirror = "no"\n',
        '[registries.search]\nregistries = ["x.example"]\n',
        'unqualified-search-registries = "x"\n',
        "[aliases]\na = 1\n",
        "registry = 1\n",
    ],
)
def test_a_file_that_makes_no_sense_is_named(host: Host, text: str) -> None:
    host.write(text)
    with pytest.raises(RegistryError, match=r"registries\.conf") as caught:
        load({"HOME": str(host.path)})
    assert caught.value.code == "registry/config"
    assert host("inspect", "--remote", "x.example/y").code == 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(os.fspath(tmp_path_factory.mktemp("tls")))


def test_an_authority_in_certs_d_is_trusted(
    host: Host, scene: Scene, certificate: Certificate, tmp_path: Path
) -> None:
    with Registry(os.fspath(tmp_path / "secure"), tls=certificate) as secure:
        place = host.path / ".config/containers/certs.d" / secure.address
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(Path(certificate.ca).read_bytes())
        copied = host.skopeo("copy", f"oci:{scene.layout}:latest", f"docker://{secure.address}/app:1")
        assert copied.returncode == 0, copied.stderr
        assert host.digest(f"{secure.address}/app:1") == scene.original
        other = make_certificate(os.fspath(tmp_path / "other"))
        (place / "ca.crt").write_bytes(Path(other.ca).read_bytes())
        done = host("inspect", "--remote", f"{secure.address}/app:1")
        assert done.code == 3 and "not trusted" in done.err


def test_a_client_certificate_in_certs_d_is_shown(
    host: Host, scene: Scene, certificate: Certificate, tmp_path: Path
) -> None:
    with Registry(os.fspath(tmp_path / "mutual"), tls=certificate, clients=certificate.ca) as mutual:
        place = host.path / ".config/containers/certs.d" / mutual.address
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(Path(certificate.ca).read_bytes())
        assert host("inspect", "--remote", f"{mutual.address}/app:1").code == 3
        (place / "client.cert").write_bytes(Path(certificate.certificate).read_bytes())
        (place / "client.key").write_bytes(Path(certificate.key).read_bytes())
        copied = host.skopeo("copy", f"oci:{scene.layout}:latest", f"docker://{mutual.address}/app:1")
        assert copied.returncode == 0, copied.stderr
        assert host.digest(f"{mutual.address}/app:1") == scene.original
        (place / "client.key").write_text("nonsense")
        assert "client.cert cannot be used" in host("inspect", "--remote", f"{mutual.address}/app:1").err


def test_a_short_name_is_dockers_whatever_registries_conf_says(host: Host, scene: Scene) -> None:
    host.write(
        f'unqualified-search-registries = ["{scene.address}"]\n'
        f'[aliases]\n"short" = "{scene.address}/team/app"\n'
        f'[[registry]]\nprefix = "docker.io"\nlocation = "{scene.dead}"\n'
    )
    done = host("inspect", "--remote", "short:1")
    assert done.code == 3 and f"{scene.dead}: no connection" in done.err


def test_aliases_count_if_pybuild_toml_says_so(host: Host, scene: Scene) -> None:
    host.write(
        f'[aliases]\n"short" = "{scene.address}/team/app"\n"some/one" = "{scene.address}/mirror/app"\n'
    )
    (host.path / "pybuild.toml").write_text('short-names = "aliases"\n')
    words = ("inspect", "--remote", "--format", "{{index .RepoDigests 0}}")
    assert host(*words, "short:1").out == f"{scene.address}/team/app@{scene.original}\n"
    assert host(*words, f"some/one@{scene.mirrored}").out == f"{scene.address}/mirror/app@{scene.mirrored}\n"
    assert host("tags", "short").out == "1\n"
    assert host("pull", "short:1").out == f"Pulled {scene.address}/team/app:1@{scene.original}\n"
    (host.path / "base.rec").write_text("FROM short:1\n")
    (host.path / "a.rec").write_text("FROM ./base.rec\nCOPY --from=some/one:1 /a /b\n")
    assert host("build", "a.rec", "-t", "child").code == 0
    assert host("lock", "a.rec").code == 0
    assert f'"{scene.address}/mirror/app:1"' in (host.path / "a.rec.lock").read_text()
    assert host("pull", "--policy=never", f"{scene.address}/mirror/app:1").code == 0
    host.write(f'[aliases]\n"short" = "{scene.address}/mirror/app"\n')
    assert host("inspect", "--remote", "short:1", "--format", "{{.Digest}}").out.strip() == scene.mirrored


@pytest.mark.parametrize(
    "alias", ['"short:1" = "r.example/x"', '"short" = "x"', '"r.example/x" = "r.example/y"']
)
def test_an_alias_that_makes_no_sense_is_named(host: Host, alias: str) -> None:
    host.write(f"[aliases]\n{alias}\n")
    (host.path / "pybuild.toml").write_text('short-names = "aliases"\n')
    done = host("tags", "short")
    assert done.code == 2 and "usage/alias" in done.err
