"""Names and texts that mean something to a terminal, or that seem to be another line."""

from __future__ import annotations

from tests.escape_fixtures.case import Case, Group, Scene
from tests.escape_fixtures.place import Place

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"
NASTY = f"{CLIPBOARD}\x1b[2J\x1b]0;evil\x07\x1bP+q\x1b\\\x9b31m\x85\u202eevil\u2066\rFAKE\x7f"
LINES = f"{NASTY}\n#9 DONE 0.0s\nerror: none"


def _bytes(*names: str) -> Scene:
    def scene(place: Place) -> None:
        for name in names:
            place.write(name, "x")

    return scene


def _image(**config: object) -> Scene:
    """Let there be an image whose config, and whose files, have such names."""

    def scene(place: Place) -> None:
        place.write(f"{place.root}/{NASTY}", "x")
        place.write(f"{place.root}/{LINES.replace('/', '-')}", "x")
        place.layout(place.base_layer(), config=dict(config))

    return scene


_SHOWN = (
    ("images",),
    ("history", "escaped"),
    ("history", "--no-trunc", "escaped"),
    ("layers", "escaped"),
    ("layers", "--files", "escaped"),
    ("inspect", "escaped"),
    ("inspect", "--format", "{{.Config.Labels}}", "escaped"),
    ("diff", "escaped"),
    ("diff", "escaped", "escaped"),
    ("plan", "try0.rec"),
    ("check", "try0.rec"),
    ("fmt", "--check", "try0.rec"),
    ("fmt", "--diff", "try0.rec"),
    ("lock", "try0.rec"),
    ("containers",),
    ("cache-mounts",),
    ("prune", "--dry-run"),
    ("doctor",),
)

_ECHO = (
    "printf '\\033]52;c;ZXZpbA==\\007\\033[2J\\033]0;evil\\007"
    "\\233\\205\\r\\033PX\\033\\\\\\342\\200\\256evil\\n'"
)

_DISPLAYS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("plain", ("--progress", "plain"), False),
    ("json", ("--progress", "json"), False),
    ("tty", ("--progress", "tty"), True),
)


def _for_each_display(name: str, tried: str, instead: str, **fields: object) -> tuple[Case, ...]:
    words: tuple[str, ...] = fields.pop("words", ())  # type: ignore[assignment]
    return tuple(
        Case(
            f"{name}-{display}",
            tried if display == "plain" else "",
            instead if display == "plain" else "",
            words=(*words, *more),
            terminal=terminal,
            **fields,  # type: ignore[arg-type]
        )
        for display, more, terminal in _DISPLAYS
    )


TERMINAL = Group(
    "What is shown on a terminal",
    (
        *_for_each_display(
            "output",
            "a step that prints escape sequences (the clipboard, the title, clear screen), bidirectional "
            "controls, "
            "carriage returns",
            "sequences are dropped, controls are shown: in lines, on a terminal and in json",
            recipes=(f"FROM base\nRUN {_ECHO}; {_ECHO} >&2\n", f"FROM base\nRUN {_ECHO}; exit 1\n"),
            code=("", "step/failed"),
        ),
        *_for_each_display(
            "names-in-recipe",
            "such characters in stage names, labels, variables, file names, documents and comments of a "
            "recipe",
            "shown, and not meant",
            recipes=(
                f'FROM base AS x\nLABEL a="{NASTY}" "{NASTY}"=b\nENV V="{NASTY}"\nRUN : "{NASTY}"\n'
                f"COPY <<E /x\n{NASTY}\nE\n# {NASTY}\n",
                f"FROM base AS x{NASTY}\n",
                f"FROM base\nCOPY {NASTY} /x\n",
                f"FROM base\nWORKDIR /{NASTY}\nUSER {NASTY}\nRUN true\n",
                f"FROM base\nNOSUCH{NASTY} x\n",
                f"FROM {NASTY}\n",
                f"FROM base\nRUN --mount=type=cache,id={NASTY},target=/{NASTY} true\n",
                f"FROM base\nRUN --mount=type=secret,id={NASTY},required=true true\n",
                f"# syntax={NASTY}\nFROM base\nARG A={NASTY}\nSTOPSIGNAL {NASTY}\n",
                f"FROM base\nINCLUDE {NASTY}\n",
                f"FROM base\nCOPY --from={NASTY} a b\n",
                f"FROM base\nADD --checksum={NASTY} http://127.0.0.1:1/{NASTY} /x\n",
            ),
            code=None,
        ),
        *_for_each_display(
            "names-in-context",
            "such characters, and newlines with what looks like the builder's own lines, in names of files "
            "that are "
            "copied, are missing, or are in the way",
            "one line, in which controls are shown",
            recipes=(
                "FROM base\nCOPY . /x/\nRUN rm -rf /x/*\nRUN ls -a /x\n",
                "FROM base\nRUN --mount=target=/m ls /m\n",
                "FROM base\nCOPY . /x/\nCOPY . /bin/sh\n",
            ),
            scene=_bytes(NASTY, LINES.replace("/", "-"), f"d{NASTY}/f{NASTY}"),
            code=None,
        ),
        Case(
            "names-in-image",
            "such characters in an image's labels, author, history, user, command and file names",
            "shown by no command: images, history, layers, inspect, diff, plan, check, lock",
            ("FROM oci-layout://PLACE/image\nRUN true\n",),
            _image(
                Labels={NASTY: NASTY, "b": LINES},
                Env=[f"A={NASTY}", f"B={LINES}"],
                Cmd=[NASTY, LINES],
                Entrypoint=[LINES],
                ExposedPorts={NASTY: {}},
                Volumes={f"/{LINES}": {}},
            ),
            words=("-t", "escaped"),
            commands=_SHOWN,
        ),
        Case(
            "names-in-format",
            "the same, filled in by inspect --format on a terminal",
            "shown, and not meant; to a pipe they go as they are",
            ("FROM oci-layout://PLACE/image\nRUN true\n",),
            _image(Labels={NASTY: NASTY, "b": LINES}, User=NASTY, Cmd=[NASTY, LINES]),
            words=("-t", "escaped"),
            commands=(
                ("inspect", "-f", "{{.Config.User}} {{.Config.Cmd}} {{json .Config}}", "escaped"),
                ("inspect", "-f", '{{index .Config.Labels "b"}}', "escaped"),
                ("inspect", "-f", '{{join .Config.Cmd " "}}', "escaped"),
                *_SHOWN,
            ),
            code=None,
            terminal=True,
        ),
        Case(
            "names-on-command-line",
            "such characters in options: names, build arguments, paths",
            "an error in which they are shown, or a build",
            ("FROM base\nARG A\nRUN true\n",),
            words=("--build-arg", f"A={NASTY}"),
            commands=(
                ("build", f"{NASTY}.rec"),
                ("build", "try0.rec", "-t", NASTY),
                ("build", "try0.rec", "--target", NASTY),
                ("build", "try0.rec", "--platform", NASTY),
                ("build", "try0.rec", "--label", f"{NASTY}={NASTY}"),
                ("build", "try0.rec", "--output", f"type={NASTY}"),
                ("build", "try0.rec", "--secret", f"id={NASTY},src={NASTY}"),
                ("build", "try0.rec", "--build-context", f"{NASTY}={NASTY}"),
                ("build", "try0.rec", f"--{NASTY}"),
                ("inspect", NASTY),
                ("run", NASTY),
                ("rmi", NASTY),
                ("tag", NASTY, NASTY),
                ("load", NASTY),
                (NASTY,),
            ),
        ),
        Case(
            "ignore-file-names",
            "such characters in .dockerignore, pybuild.toml and lock files",
            "an error in which they are shown",
            ("FROM base\nCOPY . /x\n",),
            lambda place: (
                place.write(".dockerignore", f"[{NASTY}\n!{NASTY}\n[a-\n"),
                place.write("pybuild.toml", f'"{NASTY.encode("unicode_escape").decode()}" = 1\nx = [\x1b\n'),
                place.write("try0.rec.lock", f'{{"{NASTY}": 1}}'),
                place.write("try0.lock", f"{NASTY}"),
                None,
            )[-1],
            code=None,
        ),
    ),
)
