"""What each instruction and flag does, in a sentence or two: what an editor shows of them.

docs/language.md is the whole; a test holds that nothing of the grammar is missing here. The options of
`--mount`, variables and directives are in reference_values.py.
"""

from __future__ import annotations

from grammar.node import Node


class Entry(Node):
    """How it is written, and what it means (Markdown)."""

    syntax: str
    text: str


INSTRUCTIONS = {
    "FROM": Entry(
        "FROM [--platform=P] BASE [AS name]",
        "Begins a stage on BASE: an earlier stage, an image (`name:tag@digest`), `scratch` (nothing), "
        "another recipe (`./base.rec`, `./base.rec#stage`), or a transport such as `mmdebstrap://bookworm` "
        "and `oci-archive://FILE`. The last stage is what is built, unless `--target` names another.",
    ),
    "ARG": Entry(
        "ARG name[=default] …",
        "Declares build arguments, which `--build-arg` sets. Before the first FROM it is seen by FROM "
        "lines only, until a stage declares it again. It is gone from the finished image, but its value "
        "can be read from the history.",
    ),
    "ENV": Entry(
        "ENV name=value …",
        "Sets environment variables: for what follows in the stage, and in the image. All words of a line "
        "see the values from before that line.",
    ),
    "LABEL": Entry(
        "LABEL name=value …",
        "Adds metadata to the image's config. Values with blanks need quotes.",
    ),
    "RUN": Entry(
        "RUN [--mount=…] [--network=…] [--security=…] [--timeout=…] command",
        "Runs a command in the stage, and keeps what it changed as a layer. The shell form is given to "
        "SHELL; a JSON array is executed as it is; `RUN <<EOF` runs a document as a script. Variables are "
        "the shell's to expand.",
    ),
    "COPY": Entry(
        "COPY [flags] source … destination",
        "Copies files of the build context, of a stage or image (`--from`), or documents (`<<name`). Of a "
        "directory, its contents are copied. Several sources need a destination that ends in `/`. Paths "
        "with blanks need a JSON array.",
    ),
    "ADD": Entry(
        "ADD [flags] source … destination",
        "As COPY, but a source may also be a URL or a git repository, and a local tar archive is unpacked. "
        "For plain files COPY is the better choice.",
    ),
    "WORKDIR": Entry(
        "WORKDIR path",
        "Sets the working directory of what follows, and of the image. It is made if it is missing, and "
        "belongs to the current USER; a relative path goes on from the one before.",
    ),
    "USER": Entry(
        "USER user[:group]",
        "Sets who runs what follows, and the image's command: names of the root filesystem's /etc/passwd "
        "and /etc/group, or numbers. COPY and ADD do not heed it.",
    ),
    "EXPOSE": Entry(
        "EXPOSE port[-port][/tcp|udp|sctp] …",
        "Notes the ports that the image's program listens on. It opens none: that is for who runs it.",
    ),
    "VOLUME": Entry(
        "VOLUME path …",
        "Notes directories that containers get volumes for. Later steps may still write below them.",
    ),
    "CMD": Entry(
        'CMD ["program", "argument", …]',
        "What a container of the image runs, or the arguments to ENTRYPOINT; the command line of `run` "
        "replaces it. Of several the last one counts. As a JSON array the program gets signals itself.",
    ),
    "ENTRYPOINT": Entry(
        'ENTRYPOINT ["program", "argument", …]',
        "The program that a container always runs, with CMD as its arguments. It clears a CMD that the "
        "base brought along; `[]` clears an inherited ENTRYPOINT.",
    ),
    "HEALTHCHECK": Entry(
        "HEALTHCHECK [flags] CMD command | NONE",
        "How to tell whether a container still works: exit code 0 is healthy, 1 is not. NONE clears the "
        "base's.",
    ),
    "STOPSIGNAL": Entry(
        "STOPSIGNAL signal",
        "The signal that asks a container to end, by name or number. Without it, SIGTERM.",
    ),
    "SHELL": Entry(
        'SHELL ["program", "argument", …]',
        "What runs the shell forms that follow: they are its last argument. Without it, `/bin/sh -c`.",
    ),
    "ONBUILD": Entry(
        "ONBUILD instruction",
        "Stores an instruction in the image. A recipe that builds on the image runs it right after its "
        "FROM; what builds on that one does not.",
    ),
    "MAINTAINER": Entry(
        "MAINTAINER name",
        "Names the image's author. Deprecated: use `LABEL org.opencontainers.image.authors=…`.",
    ),
    "TEST": Entry(
        "TEST [--name=…] [--timeout=…] command | --testinfra=PATH",
        "*Extension.* Runs a command in the image as it is at that line, with its user, environment and "
        "directory. What it writes is thrown away. If it fails, so does the build, and nothing is tagged "
        "or exported.",
    ),
    "INCLUDE": Entry(
        "INCLUDE path.rec [NAME=value …]",
        "*Extension.* Puts the instructions of a fragment, a file without FROM, here. The values are those "
        "of its ARGs.",
    ),
    "PACKAGES": Entry(
        "PACKAGES apt|apk|dnf|pip|npm name[=version] …",
        "*Extension.* Installs packages in one layer: without questions and recommendations, and nothing "
        "is left over.",
    ),
}

_CHOWN = Entry(
    "--chown=USER[:GROUP]",
    "The owner of what is copied: names of the root filesystem, or numbers. Without it, 0:0, whatever USER "
    "is.",
)
_CHMOD = Entry("--chmod=MODE", "The mode of what is copied: octal (`755`) or symbolic (`u=rwX,go=rX`).")
_LINK = Entry(
    "--link",
    "Copies into a layer that does not depend on what is below: it is reused when the base changes. A "
    "symbolic link in the way of the destination is replaced, not followed.",
)
_PARENTS = Entry(
    "--parents",
    "Keeps the directories of the sources below the destination; `/./` in a source marks where they begin.",
)
_EXCLUDE = Entry(
    "--exclude=PATTERN", "Leaves out what matches, as a line of an ignore file does. May be repeated."
)
_FILES = {"--chown": _CHOWN, "--chmod": _CHMOD, "--link": _LINK, "--parents": _PARENTS, "--exclude": _EXCLUDE}

FLAGS = {
    "FROM": {
        "--platform": Entry(
            "--platform=OS/ARCH[/VARIANT]",
            "The platform of the base, where it is not that of the build. `$BUILDPLATFORM` is for stages "
            "that cross-compile.",
        ),
        "--variant": Entry(
            "--variant=VARIANT",
            "Which packages `mmdebstrap://` begins with: extract, custom, essential, apt, required, "
            "minbase, buildd, important, debootstrap or standard.",
        ),
        "--include": Entry(
            "--include=PACKAGE[,PACKAGE]", "Packages that `mmdebstrap://` installs as well. May be repeated."
        ),
        "--mirror": Entry("--mirror=URL", "Where `mmdebstrap://` gets packages from. May be repeated."),
        "--keyring": Entry(
            "--keyring=FILE", "The keys that `mmdebstrap://` trusts, in place of Debian's own."
        ),
    },
    "RUN": {
        "--mount": Entry(
            "--mount=type=TYPE,option=value,…",
            "Mounts something for this command alone; no trace of it stays in the layer. Types: `bind` "
            "(files of the context or a stage), `cache` (kept between builds), `tmpfs`, `secret`, `ssh`. "
            "May be repeated.",
        ),
        "--network": Entry(
            "--network=default|none|host",
            "`none`: no network but a loopback of its own. `host`: this machine's network.",
        ),
        "--security": Entry(
            "--security=sandbox|insecure",
            "`insecure` runs with all privileges; the command line must allow it: `--allow "
            "security.insecure`.",
        ),
        "--timeout": Entry(
            "--timeout=DURATION",
            "*Extension.* The command is killed, and the build fails, if it takes longer: `90s`, `5m`.",
        ),
    },
    "COPY": {
        "--from": Entry(
            "--from=NAME",
            "Takes the sources from a stage (name or number), an image or a named context. It takes no "
            "variables.",
        ),
        **_FILES,
    },
    "ADD": {
        "--checksum": Entry(
            "--checksum=sha256:DIGEST", "What a downloaded file, or the commit of a git repository, must be."
        ),
        "--keep-git-dir": Entry("--keep-git-dir", "Keeps the `.git` directory of a git repository."),
        "--unpack": Entry(
            "--unpack[=false]", "Whether archives are unpacked: local ones are, downloaded ones are not."
        ),
        **_FILES,
    },
    "HEALTHCHECK": {
        "--interval": Entry(
            "--interval=DURATION", "The time between two checks: `500ms`, `30s`, `1m30s`. Without it, 30s."
        ),
        "--timeout": Entry("--timeout=DURATION", "A check that takes longer has failed. Without it, 30s."),
        "--start-period": Entry(
            "--start-period=DURATION",
            "The time that the program has to start: failures within it do not count.",
        ),
        "--start-interval": Entry(
            "--start-interval=DURATION",
            "The time between two checks within the start period. Without it, 5s.",
        ),
        "--retries": Entry(
            "--retries=N", "How many failures in a row make the container unhealthy. Without it, 3."
        ),
    },
    "TEST": {
        "--name": Entry("--name=NAME", "What the test is called where its result is shown."),
        "--testinfra": Entry(
            "--testinfra=PATH", "Runs a testinfra suite, a Python file beside the recipe, against the image."
        ),
        "--timeout": Entry("--timeout=DURATION", "A test that takes longer has failed: `90s`, `5m`."),
    },
}
"""The flags of each instruction that has any."""
