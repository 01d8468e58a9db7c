"""Documents of images: configs, manifests, indices and archives, and registries that lie."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import Any

from tests.escape_fixtures.case import Case, Group, Scene
from tests.escape_fixtures.place import Place, descriptor, digest
from tests.escape_fixtures.programs import probe

_FROM = "FROM oci-layout://PLACE/image\n"
_OCI = "application/vnd.oci.image"
_NASTY = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b]0;evil\x07\x9b31m\u202eevil\u2066\r\nFAKE: line\x00\x7f"


def _config(**fields: Any) -> Scene:
    """Let there be an image of the base's files with this in its config."""

    def scene(place: Place) -> None:
        place.write(f"{place.root}/bin/probe", probe(), 0o755)
        filled = json.loads(place.fill(json.dumps(fields)))
        place.layout(place.base_layer(), config=filled)

    return scene


def _document(make: Any) -> Scene:
    """Let there be a layout of what `make(place)` gives: manifest, config and more blobs, index."""

    def scene(place: Place) -> None:
        manifest, blobs, index = make(place)
        place.layout_of(f"{place.directory}/image", manifest, *blobs, index=index)

    return scene


def _manifest(config: bytes, layers: list[dict[str, Any]], **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": descriptor(f"{_OCI}.config.v1+json", config),
        "layers": layers,
    }
    return json.dumps(document | more).encode()


_EMPTY = json.dumps(
    {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
).encode()


def _bomb_in_config(text: bytes) -> Scene:
    """Let the image config have `text` in place of a label's value."""

    def make(place: Place) -> tuple[bytes, list[bytes], None]:
        config = _EMPTY.replace(b'"config": {}', b'"config": {"Labels": ' + text + b"}")
        return _manifest(config, []), [config], None

    return _document(make)


def _bomb_in_manifest(text: bytes) -> Scene:
    def make(place: Place) -> tuple[bytes, list[bytes], None]:
        return _manifest(_EMPTY, []).replace(b'"layers": []', b'"layers": ' + text), [_EMPTY], None

    return _document(make)


def _named(name: str, size: object = 30) -> Scene:
    """Let the manifest name a layer by what is no digest."""

    def make(place: Place) -> tuple[bytes, list[bytes], None]:
        layer = {"mediaType": f"{_OCI}.layer.v1.tar", "digest": place.fill(name), "size": size}
        config = _EMPTY.replace(b'"diff_ids": []', b'"diff_ids": ["sha256:' + b"0" * 64 + b'"]')
        return _manifest(config, [layer]), [config], None

    return _document(make)


def _diff_id(name: str) -> Scene:
    """Let the image config name a layer so: it is a path in the store, where it is one."""

    def make(place: Place) -> tuple[bytes, list[bytes], None]:
        layer = place.base_layer()
        config = _EMPTY.replace(
            b'"diff_ids": []', b'"diff_ids": [' + json.dumps(place.fill(name)).encode() + b"]"
        )
        return _manifest(config, [descriptor(f"{_OCI}.layer.v1.tar", layer)]), [config, layer], None

    return _document(make)


def _odd_layout(kind: str) -> Scene:
    """Let the layout's index or blobs be something else than files."""

    def scene(place: Place) -> None:
        layout = place.layout(place.base_layer())
        index = f"{layout}/index.json"
        blobs = f"{layout}/blobs/sha256"
        if kind == "fifo":
            os.unlink(index)
            os.mkfifo(index)
        elif kind == "zero":
            place.link(index, "/dev/zero")
        elif kind == "link":
            place.link(index, f"{place.outside}/secret")
        else:
            for name in os.listdir(blobs):
                place.link(f"{blobs}/{name}", f"{place.outside}/secret")

    return scene


def _docker_archive(manifest: Any, *members: tuple[str, bytes | str]) -> Scene:
    """Let there be an archive with this manifest.json, and files, or links where a target is given."""

    def scene(place: Place) -> None:
        with tarfile.open(f"{place.directory}/image.tar", "w") as archive:
            for name, content in (("manifest.json", json.dumps(manifest).encode()), *members):
                info = tarfile.TarInfo(place.fill(name))
                if isinstance(content, str):
                    info.type, info.linkname = tarfile.SYMTYPE, place.fill(content)
                    archive.addfile(info)
                else:
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))

    return scene


_REFUSED = ("image/format", "image/digest", "base/missing", "image/missing", "blob/mismatch", "cache/digest")

IMAGES = Group(
    "Documents of an image",
    (
        Case(
            "config-nested",
            "a config of 100,000 arrays within each other, and of as many objects",
            "an error",
            (_FROM,),
            _bomb_in_config(b"[" * 100_000 + b"]" * 100_000),
            code="image/format",
        ),
        Case(
            "manifest-nested",
            "a manifest of that kind",
            "an error",
            (_FROM,),
            _bomb_in_manifest(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
            code="image/format",
        ),
        Case(
            "numbers",
            "numbers of 100,000 digits, 1e999999, NaN, negative sizes",
            "an error",
            (_FROM,),
            _named("sha256:" + "0" * 64, 10**4000),
            code="image/format",
        ),
        Case(
            "negative-size",
            "a layer of a negative size",
            "an error",
            (_FROM,),
            _named("sha256:" + "0" * 64, -1),
            code="image/format",
        ),
        Case(
            "config-huge",
            "a config of 100 MB",
            "an error before it is read",
            (_FROM,),
            _bomb_in_config(b'{"a": "' + b"x" * 100_000_000 + b'"}'),
            code="image/format",
        ),
        Case(
            "duplicate-keys",
            "a config that says everything twice, differently",
            "the last one counts, in what is verified as in what is used",
            (_FROM + "RUN true\n",),
            _document(
                lambda place: (
                    lambda layer, config: (
                        _manifest(config, [descriptor(f"{_OCI}.layer.v1.tar", layer)]),
                        [config, layer],
                        None,
                    )
                )(
                    place.base_layer(),
                    _EMPTY.replace(
                        b'"diff_ids": []',
                        b'"diff_ids": ["sha256:'
                        + b"1" * 64
                        + b'"], "diff_ids": ["'
                        + digest(place.base_layer()).encode()
                        + b'"]',
                    ),
                )
            ),
            code=None,
        ),
        Case(
            "digest-is-a-path",
            "a layer's digest of `sha256:../../../outside/secret`, absolute, of another algorithm, in "
            "capitals",
            "no digest; an error",
            (_FROM,),
            _named("sha256:../../../outside/secret"),
            code="image/format",
        ),
        Case(
            "diff-id-is-a-path",
            "the same in the config's diff_ids, by which the store names directories",
            "an error",
            (_FROM,),
            _diff_id("sha256:../../../outside/directory"),
            code="image/format",
        ),
        Case(
            "diff-id-wrong",
            "a layer that is another one than the config says",
            "an error; nothing of it is in the store",
            (_FROM,),
            _diff_id("sha256:" + "0" * 64),
            code=("image/format", "image/digest", "cache/mismatch"),
        ),
        Case(
            "layout-fifo",
            "a layout whose index is a fifo",
            "an error; nobody waits",
            (_FROM,),
            _odd_layout("fifo"),
            code=_REFUSED,
        ),
        Case(
            "layout-device",
            "a layout whose index is a link to /dev/zero",
            "an error",
            (_FROM,),
            _odd_layout("zero"),
            code=_REFUSED,
        ),
        Case(
            "layout-links",
            "a layout whose index, or whose blobs, are links to a file that only the host may read",
            "an error that shows nothing of it",
            (_FROM,),
            _odd_layout("link"),
            code=_REFUSED,
        ),
        Case("layout-blob-links", "", "", (_FROM,), _odd_layout("blobs"), code=_REFUSED),
        Case(
            "archive-names",
            "a docker-archive whose manifest names `../../outside/secret`, and members that are links to it",
            "members are found in the archive alone",
            ("FROM docker-archive://PLACE/image.tar\n",),
            _docker_archive(
                [{"Config": "../../outside/secret", "RepoTags": ["x:y"], "Layers": ["OUTSIDE/secret", "l"]}],
                ("l", "OUTSIDE/secret"),
                ("../../outside/secret", "OUTSIDE/secret"),
            ),
            code=_REFUSED,
        ),
        Case(
            "archive-link-circle",
            "members of an archive that are links to each other",
            "an error",
            ("FROM docker-archive://PLACE/image.tar\n",),
            _docker_archive([{"Config": "a", "RepoTags": ["x:y"], "Layers": ["b"]}], ("a", "b"), ("b", "a")),
            code=_REFUSED,
        ),
        Case(
            "config-workdir",
            "WorkingDir of `..`, relative, and /proc/self/fd/7",
            "as with WORKDIR",
            (
                _FROM
                + "RUN --mount=type=cache,target=/m --mount=target=/n "
                + "cat ../../../../../../../..OUTSIDE/secret\n",
            ),
            _config(WorkingDir="/proc/self/fd/7"),
            code="step/workdir",
        ),
        Case(
            "config-user",
            "User with newlines, colons, an enormous and a negative number",
            "no such user",
            (_FROM + "RUN id\n",),
            _config(User="root\nmole:x:0:0::/:/bin/sh"),
            code="step/user",
        ),
        Case(
            "config-environment",
            "Env with LD_PRELOAD, PYTHONPATH, GIT_SSH_COMMAND, newlines, no `=`, control characters",
            "it is for the step's processes, and for none of the builder's",
            (_FROM + "RUN env >/dev/null; /bin/true\nCOPY . /x\n",),
            _config(
                Env=[
                    "PATH=/bin",
                    "LD_PRELOAD=OUTSIDE/secret",
                    "PYTHONPATH=OUTSIDE",
                    "PYTHONSTARTUP=OUTSIDE/secret",
                    "GIT_SSH_COMMAND=touch OUTSIDE/x",
                    "novalue",
                    "=x",
                    f"A={_NASTY}".replace("\x00", ""),
                    "B" * 10_000 + "=x",
                ]
            ),
            code=None,
        ),
        Case(
            "config-triggers",
            "OnBuild that copies files of the host, includes them, mounts, asks for privileges, is no "
            "instruction",
            "a trigger may do what a recipe may",
            (_FROM + "RUN true\n",),
            _config(OnBuild=["COPY ../outside/secret /x"]),
            code="copy/missing",
        ),
        Case(
            "config-trigger-privileges",
            "OnBuild with RUN --security=insecure, a secret, INCLUDE of /etc/shadow",
            "an error",
            (_FROM + "RUN true\n",),
            _config(OnBuild=["RUN --security=insecure true"]),
            code=("run/insecure", "plan/entitlement", "run/security", "security/insecure"),
        ),
        Case(
            "config-trigger-include",
            "OnBuild with INCLUDE of a file of the host's",
            "an error that shows nothing of the file",
            (_FROM + "RUN true\n",),
            _config(OnBuild=["INCLUDE OUTSIDE/shadow"]),
            code=("image/onbuild", "include/onbuild", "onbuild/include", "recipe/onbuild", "syntax/onbuild"),
        ),
        Case(
            "config-odd-types",
            "Env, Cmd, Labels, Volumes, ExposedPorts of other types than theirs",
            "an error",
            (_FROM + "RUN true\n",),
            _config(Env={"a": 1}, Cmd="x", Labels=[1], Volumes=7, ExposedPorts=[[]]),
            code="image/format",
        ),
        Case(
            "config-volumes",
            "Volumes and Entrypoint with `..`, control characters, in a shell's form",
            "carried along; nothing is mounted or run",
            (_FROM + "RUN true\n",),
            _config(
                Volumes={"/../../..OUTSIDE": {}, "/proc": {}}, Entrypoint=["/bin/sh", "-c", "touch OUTSIDE/x"]
            ),
            words=("-t", "escaped"),
            commands=(("inspect", "escaped"), ("layers", "escaped"), ("run", "escaped", "true")),
        ),
    ),
)
