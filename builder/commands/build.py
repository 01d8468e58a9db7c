"""Build an image from a recipe.

RECIPE is a Dockerfile or a .rec file; without one, ./Dockerfile or the only *.rec here is taken. A directory
in its place is a context with a Dockerfile in it. The context is the recipe's own directory unless it is
given. It may also be - (a tar on standard input), a git repository (https://HOST/PATH.git#REF:DIRECTORY), or
the URL of a tar or recipe.

The image stands in the store when the build is done; nothing else is written unless --output asks for it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from builder.asked import add_options
from builder.errors import UsageError
from builder.limits import add_options as add_limits
from builder.options import Joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.build import Built, Settings
    from builder.debug.keeping import Keeper
    from builder.exporters.base import Output
    from builder.exporters.output_spec import OutputSpec
    from builder.session import Session

TIMESTAMPS = (
    "keep, clamp, or seconds since 1970 (default: clamp to SOURCE_DATE_EPOCH, else to the commit time "
    "of a clean git work tree)"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="the recipe, or a directory with a Dockerfile"
    )
    parser.add_argument("context_", nargs="?", metavar="CONTEXT", help="the directory that COPY reads")
    add_build_options(parser)
    add_result_options(parser)


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add what says what becomes of the image, what is shown, and what comes of a failure."""
    parser.add_argument(
        "-t",
        "--tag",
        action="append",
        default=[],
        metavar="NAME[:TAG]",
        help="name the image; may be repeated",
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="type=TYPE,dest=PATH",
        help="write the image out: oci, oci-layout, docker, tar, dir, registry; compression=gzip|zstd|none; "
        "may be repeated",
    )
    parser.add_argument(
        "--push",
        action="store_true",
        help="push the image to the registries that its names say, as --output type=registry",
    )
    parser.add_argument(
        "--annotation",
        action="append",
        default=[],
        metavar="[TYPE:]KEY=VALUE",
        help="annotate the manifest in OCI outputs; TYPE: manifest, manifest-descriptor, index; "
        "may be repeated",
    )
    parser.add_argument("--iidfile", metavar="FILE", help="write the image id to FILE")
    parser.add_argument("--metadata-file", metavar="FILE", help="write what was built to FILE, as JSON")
    parser.add_argument("--explain", action="store_true", help="say for each step why it hit or missed")
    parser.add_argument(
        "--progress",
        choices=("auto", "tty", "plain", "json", "quiet"),
        default=None,
        help="how to show what goes on",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print the image id alone")
    parser.add_argument(
        "--on-failure",
        choices=("shell", "report"),
        help="when a step fails: open a shell in it, or write a report about it",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="where the report is written (default: ./pybuild-report)"
    )


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that builds takes."""
    parser.add_argument(
        "-f",
        "--file",
        metavar="RECIPE",
        help="the recipe (- for standard input); then RECIPE is the context",
    )
    parser.add_argument("--context", metavar="DIR", help="the directory that COPY reads")
    parser.add_argument(
        "--target", metavar="STAGE", help="build this stage (name or number) and what it needs"
    )
    parser.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set an ARG; without VALUE, from the environment",
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="add a label to the image"
    )
    parser.add_argument(
        "--platform",
        action=Joined,
        metavar="OS/ARCH[,OS/ARCH]",
        help="build for these platforms (default: this machine's)",
    )
    parser.add_argument(
        "--build-context",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="let NAME mean a directory, docker-image://IMAGE, oci-layout://PATH, target:STAGE, a recipe; "
        "may be repeated",
    )
    parser.add_argument("--no-cache", action="store_true", help="run every step")
    parser.add_argument(
        "--no-cache-filter",
        action="append",
        default=[],
        metavar="STAGE[,STAGE]",
        help="run every step of these stages (name or number); may be repeated",
    )
    parser.add_argument(
        "--cache-from",
        action="append",
        default=[],
        metavar="type=TYPE,...",
        help="a shared cache that is asked for what the store does not know: type=registry,ref=HOST/NAME, "
        "type=dir,path=DIR, type=object,url=URL; may be repeated",
    )
    parser.add_argument(
        "--cache-to",
        action="append",
        default=[],
        metavar="type=TYPE,...",
        help="a shared cache that is told what was run; key=FILE signs; may be repeated",
    )
    parser.add_argument(
        "--cache-required", action="store_true", help="fail where a shared cache cannot be used"
    )
    parser.add_argument(
        "--pull", action="store_true", help="ask where bases come from again, even if they are in the store"
    )
    parser.add_argument(
        "--locked", action="store_true", help="take nothing that the lock file does not have, as it has it"
    )
    parser.add_argument("--no-lock", action="store_true", help="do as if there were no lock file")
    parser.add_argument(
        "-j",
        "--jobs",
        type=_jobs,
        metavar="N",
        help="run up to N stages at the same time (default: two for each processor, four at least)",
    )
    parser.add_argument(
        "--host-ca", action="store_true", help="let RUN trust the certificates that this host trusts"
    )
    parser.add_argument("--timestamps", metavar="WHEN", help=TIMESTAMPS)
    parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="id=NAME[,src=FILE|,env=VARIABLE]",
        help="what RUN --mount=type=secret,id=NAME may know; may be repeated",
    )
    parser.add_argument(
        "--ssh",
        action="append",
        default=[],
        metavar="NAME[=SOCKET|KEY,...]",
        help="the agent, or the keys, that RUN --mount=type=ssh may use: default is $SSH_AUTH_SOCK",
    )
    add_options(parser)
    add_limits(
        parser,
        of="each RUN",
        timeout="end the build if it takes longer, such as 30m; RUN has a --timeout of its own",
    )


def _jobs(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of stages")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.debug.keeping import Keeper
    from builder.session import open_session

    started = time.time_ns()
    with open_session(args) as session:
        keeper = Keeper(session.store, args)
        code = carry_out(session, args, keeper, started=started)
        if code and args.on_failure is not None:
            from builder.debug.onfailure import after

            code = after(session, args, keeper, code)
    return code


def carry_out(session: Session, args: argparse.Namespace, keeper: Keeper, *, started: int = 0) -> int:
    """Build what the arguments mean, `keeper` looking on; return the exit code. `started` (ns): when the
    command was, 0 for a build that leaves no receipt.
    """
    from builder.cli import ERRORS
    from builder.contexts import open_context
    from builder.deadline import deadline
    from builder.excerpts import failure
    from builder.limits import limits
    from builder.receipt import Recorder, leave_receipt, wanted

    outputs = _outputs(session, args)
    annotations = session.annotations(args, outputs)
    session.written = outputs
    mode = "quiet" if args.quiet else args.progress or session.config.progress
    with session.display(mode, explain=args.explain) as display:
        recorder = Recorder(keeper.passing(display.emit))
        build = None
        try:
            with (
                deadline(limits(args, session.config).timeout, recorder.events),
                open_context(args, session.store, recorder.emit) as context,
            ):
                keeper.recipe, keeper.bases = context.recipe, session.bases
                build = session.prepare(
                    args,
                    context,
                    recorder.emit,
                    inspection=keeper,
                    several=True,
                    change=partial(_with_outputs, session, outputs),
                )
                built = build.run(context.recipe, context.directory)
                written = session.export(built, outputs, display.emit, annotations)
                # Whether what is elsewhere is still the same takes a question each time.
                settled = started and not context.origin and all(each.fixed for each in build.fetched)
                if not built.ran and settled and wanted(args, session.config):
                    leave_receipt(
                        session, args, context.directory, build, built, recorder.events, started=started
                    )
        except ERRORS as error:
            # The display shows it: after it the terminal is as it was, and a json reader needs nothing
            # else.
            event = failure(error, build.loader.sources.values() if build is not None else ())
            recorder.emit(event)
            return event.exit_code
        if built.ran:
            from builder.autoprune import prune_after

            prune_after(session.store, session.config, display.emit)
    _write_files(args, built, written)
    to_stdout = any(output.spec.dest == "-" for output in written)
    if not to_stdout and (args.quiet or not sys.stdout.isatty()):
        print(built.image_id)
    return 0


def _with_outputs(session: Session, outputs: Sequence[OutputSpec], settings: Settings) -> Settings:
    if not outputs:
        return settings
    from builder.imagecopy.lenders import lending

    lent = lending(session.store, session.registries, outputs, settings.names)
    return replace(settings, whole=True, lent=lent)


def _outputs(session: Session, args: argparse.Namespace) -> tuple[OutputSpec, ...]:
    """Return what is to be written, and pushed. Raises UsageError."""
    given = [*(args.output or session.config.outputs), *(["type=registry"] if args.push else [])]
    outputs = session.outputs(given, args.platform)
    if any(spec.type == "registry" and not (spec.names or args.tag) for spec in outputs):
        raise UsageError(
            "an image without a name cannot be pushed",
            code="usage/output",
            hint="-t REGISTRY/NAME:TAG, or --output type=registry,name=…",
        )
    return outputs


def find_recipe(args: argparse.Namespace) -> tuple[str, str]:
    """Return the recipe's path and the context directory that the arguments mean. Raises UsageError, also for
    a context that comes from elsewhere (see builder.contexts)."""
    from builder.contexts import is_elsewhere, words

    recipe, context = words(args)
    if is_elsewhere(context) or (context is None and recipe != "-" and is_elsewhere(recipe)):
        raise UsageError(
            "only build and verify take a context that is no directory",
            code="context/elsewhere",
            hint="fetch it, and give the directory",
        )
    if recipe is not None and os.path.isdir(recipe):
        if context is not None:
            raise UsageError(f"{recipe} is a directory, not a recipe", code="recipe/unreadable")
        return recipe_in(recipe), recipe
    if recipe is None:
        recipe = recipe_in(".")
    return recipe, context if context is not None else os.path.dirname(recipe) or "."


def recipe_in(directory: str, shown: str = "") -> str:
    """Return the path of the recipe that a directory is known by; errors call it `shown`. Raises
    UsageError.
    """
    for name in ("Dockerfile", "dockerfile"):
        path = os.path.normpath(os.path.join(directory, name))
        if os.path.isfile(path):
            return path
    found = sorted(name for name in os.listdir(directory) if name.endswith(".rec"))
    if len(found) == 1:
        return os.path.normpath(os.path.join(directory, found[0]))
    there = "there is none" if not found else f"there are {len(found)}: {', '.join(found[:5])}"
    raise UsageError(
        f"no recipe is named, and {shown or directory} has neither a Dockerfile nor a single *.rec ({there})",
        code="usage/no-recipe",
        hint="pybuild RECIPE [CONTEXT]; see pybuild --help",
    )


def _write_files(args: argparse.Namespace, built: Built, written: Sequence[Output]) -> None:
    import json

    if args.iidfile:
        write_text(args.iidfile, built.image_id)
    if args.metadata_file:
        digests = [output.manifest for output in written if output.manifest is not None]
        metadata = {
            "image.id": built.image_id,
            "image.names": list(built.names),
            "image.layers": list(built.config.diff_ids) if len(built.images) == 1 else [],
            "steps.run": built.ran,
            "steps.cached": built.cached,
            "image.name": ",".join(built.names),
            **_platforms(built),
            **({"containerimage.digest": digests[0]} if digests else {}),
            "outputs": [
                {"type": o.spec.type, "dest": o.spec.dest, "size": o.size, "manifest.digest": o.manifest}
                for o in written
            ],
        }
        write_text(args.metadata_file, json.dumps(metadata, indent=2) + "\n")


def _platforms(built: Built) -> dict[str, object]:
    """What docker buildx says of one image, which it does not say of an index; and of which platforms that
    is.
    """
    if len(built.images) == 1:
        return {"containerimage.config.digest": built.image_id}
    pairs = zip(built.configs, built.images, strict=True)
    return {"image.platforms": {str(config.platform): image for config, image in pairs}}


def write_text(path: str, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", code="usage/write") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
