"""COPY and ADD under planning."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from builder.chmod import parse_chmod
from builder.errors import PlanError
from builder.stagestate import StageState, absolute, line_of
from builder.steps import ContextTree, CopyStep, Tree
from grammar import ast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def add(state: StageState, instruction: ast.Add) -> None:
    """ADD. Raises PlanError."""
    _refuse(instruction, {"--checksum": instruction.checksum, "--keep-git-dir": instruction.keep_git_dir})
    for word in instruction.sources:
        source = state.expand(word)
        if _REMOTE.match(source):
            raise PlanError(
                f"ADD {source}: this version adds nothing from the network",
                code="recipe/unsupported",
                span=word.span,
                hint="RUN curl or git, and have it check a digest",
            )
    _copy(state, instruction, ContextTree())


def copy(state: StageState, instruction: ast.Copy) -> None:
    """COPY. Raises PlanError."""
    from_ = instruction.from_
    _copy(state, instruction, ContextTree() if from_ is None else state.trees[from_.text])


_REMOTE = re.compile(r"(https?|git|ssh)://|git@|github\.com/", re.IGNORECASE)


def _refuse(instruction: ast.Copy | ast.Add, flags: Mapping[str, object]) -> None:
    for flag, given in flags.items():
        if given:
            raise PlanError(
                f"{instruction.keyword} {flag} is not supported by this version",
                code="recipe/unsupported",
                span=instruction.span,
            )


def _copy(state: StageState, instruction: ast.Copy | ast.Add, tree: Tree) -> None:
    _refuse(instruction, {"--parents": instruction.parents, "--exclude": instruction.exclude})
    keyword = instruction.keyword
    chown = state.expand(instruction.chown) if instruction.chown else ""
    chmod = state.expand(instruction.chmod) if instruction.chmod else ""
    if chmod:
        _at(instruction, lambda: parse_chmod(chmod))
    dest = state.expand(instruction.dest)
    sources = tuple(state.expand(word) for word in instruction.sources)
    documents = tuple((doc.name, _document(state, doc)) for doc in instruction.heredocs)
    into = dest in ("", ".", "..") or dest.endswith(("/", "/.", "/.."))
    if len(sources) + len(documents) > 1 and not into:
        raise PlanError(
            f"{keyword} of several sources needs a destination that ends in /: {dest!r}",
            code="copy/several",
            span=instruction.span,
            hint=f"write {dest}/",
        )
    for name, _ in documents:
        # In the sandbox of a name alone: a path here would lead out of the destination.
        if "/" in name or name in ("", ".", ".."):
            raise PlanError(
                f"{keyword} <<{name}: a document is called what stands behind <<, so that cannot be a path",
                code="copy/document",
                span=instruction.span,
                hint=f"write {keyword} <<EOF {posixpath.join(dest, posixpath.basename(name) or 'NAME')}",
            )
    flags = [f"--chown={chown}"] * bool(chown) + [f"--chmod={chmod}"] * bool(chmod)
    shown = " ".join([*flags, *sources, *(f"<<{name}" for name, _ in documents), dest])
    state.steps.append(
        CopyStep(
            span=instruction.span,
            text=line_of(instruction),
            created_by=f"{keyword} {shown} # pybuild",
            tree=tree,
            sources=sources,
            documents=documents,
            dest=absolute(state, dest),
            into_directory=into,
            chown=chown,
            chmod=chmod,
            link=instruction.link,
            unpack=isinstance(instruction, ast.Add) and instruction.unpack is not False,
        )
    )


def _at(instruction: ast.Instruction, check: Callable[[], object]) -> None:
    """Run `check`, and give what it raises the instruction's place."""
    try:
        check()
    except PlanError as error:
        error.span = instruction.span
        raise


def _document(state: StageState, doc: ast.Heredoc) -> bytes:
    content = doc.content
    if doc.expand:
        from grammar.expand import expand_document

        content = expand_document(content, state.scope.lookup, span=doc.span)
    return content.encode("utf-8", "surrogateescape")
