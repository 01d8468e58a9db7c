"""COPY and ADD under planning."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.chmod import parse_chmod
from builder.errors import PlanError
from builder.patterns import IgnoreRules
from builder.remotes.address import GitAddress, parse_address, redact, with_checksum
from builder.stagestate import StageState, absolute, line_of
from builder.steps import ContextTree, CopyStep, Tree
from grammar import ast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.remotes.address import Address


def add(state: StageState, instruction: ast.Add) -> None:
    """ADD. Raises PlanError."""
    _copy(state, instruction, ContextTree())


def copy(state: StageState, instruction: ast.Copy) -> None:
    """COPY. Raises PlanError."""
    from_ = instruction.from_
    if from_ is None:
        for word, source in zip(instruction.sources, _expanded(state, instruction), strict=True):
            if _address(source, word) is not None:
                raise PlanError(
                    f"COPY {redact(source)}: COPY takes nothing from elsewhere",
                    code="copy/url",
                    span=word.span,
                    hint="ADD does",
                )
    _copy(state, instruction, ContextTree() if from_ is None else state.trees[from_.text])


def _expanded(state: StageState, instruction: ast.Copy | ast.Add) -> tuple[str, ...]:
    return tuple(state.expand(word) for word in instruction.sources)


def _address(source: str, word: ast.Word) -> Address | None:
    """Return what a source means that is elsewhere, None for one that is not. Raises PlanError."""
    if "@" not in source and "://" not in source:
        return None
    try:
        return parse_address(source)
    except PlanError as error:
        error.span = word.span
        raise


def _remote(
    state: StageState, instruction: ast.Add, sources: Sequence[str]
) -> tuple[tuple[int, Address], ...]:
    """Return what of an ADD is elsewhere, as CopyStep has it. Raises PlanError."""
    found = [
        (index, address)
        for index, (word, source) in enumerate(zip(instruction.sources, sources, strict=True))
        if (address := _address(source, word)) is not None
    ]
    if instruction.checksum is not None:
        checksum = state.expand(instruction.checksum)
        if len(sources) + len(instruction.heredocs) != 1 or not found:
            raise PlanError(
                "ADD --checksum is for one URL or git repository alone",
                code="add/checksum",
                span=instruction.span,
            )
        _at(instruction, lambda: found.append((0, with_checksum(found.pop()[1], checksum))))
    return tuple((index, _kept(address, instruction)) for index, address in found)


def _kept(address: Address, instruction: ast.Add) -> Address:
    """Return the address with what --keep-git-dir says."""
    if not instruction.keep_git_dir or not isinstance(address, GitAddress):
        return address
    if address.keep_git_dir is False:
        raise PlanError(
            "--keep-git-dir, and a URL that says the opposite", code="git/url", span=instruction.span
        )
    return replace(address, keep_git_dir=True)


def _excluded(state: StageState, instruction: ast.Copy | ast.Add) -> tuple[str, ...]:
    """Return the patterns of --exclude. Raises PlanError for what is none."""
    patterns = []
    for word in instruction.exclude:
        pattern = state.expand(word)
        try:
            IgnoreRules((pattern,))
        except ValueError as error:
            raise PlanError(
                f"{instruction.keyword} --exclude={pattern}: {error}", code="copy/pattern", span=word.span
            ) from None
        patterns.append(pattern)
    return tuple(patterns)


def _copy(state: StageState, instruction: ast.Copy | ast.Add, tree: Tree) -> None:
    keyword = instruction.keyword
    chown = state.expand(instruction.chown) if instruction.chown else ""
    chmod = state.expand(instruction.chmod) if instruction.chmod else ""
    if chmod:
        _at(instruction, lambda: parse_chmod(chmod))
    dest = state.expand(instruction.dest)
    sources = _expanded(state, instruction)
    remote = _remote(state, instruction, sources) if isinstance(instruction, ast.Add) else ()
    for index, _ in remote:
        # As it may be shown: in the history, in errors, in records.
        sources = (*sources[:index], redact(sources[index]), *sources[index + 1 :])
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
    flags = ["--parents"] * instruction.parents
    flags += [f"--chown={chown}"] * bool(chown) + [f"--chmod={chmod}"] * bool(chmod)
    shown = " ".join([*flags, *sources, *(f"<<{name}" for name, _ in documents), dest])
    state.steps.append(
        CopyStep(
            span=instruction.span,
            text=redact(line_of(instruction)),
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
            remote=remote,
            unpack_remote=isinstance(instruction, ast.Add) and bool(instruction.unpack and remote),
            parents=instruction.parents,
            exclude=_excluded(state, instruction),
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
        content = state.scope.expand_document(content, doc.span)
    return content.encode("utf-8", "surrogateescape")
