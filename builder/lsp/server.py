"""The language server itself: pygls between an editor and the functions of this package.

Whatever goes wrong inside is told to the editor's log, and the request is answered with nothing: a text that
is being typed is rarely a whole one, and must not end the server. Nothing of a document is ever run.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lsprotocol import types
from pygls import uris
from pygls.exceptions import FeatureRequestError, JsonRpcException
from pygls.lsp.server import LanguageServer

from builder.lsp.actions import Action, Edit, actions, formatting
from builder.lsp.completion import Item, completions
from builder.lsp.definition import definition, occurrences
from builder.lsp.document import Document, Range
from builder.lsp.hover import hover
from builder.lsp.problems import DEPRECATED, documentation, page
from builder.lsp.rename import Refused, renamable, rename
from builder.lsp.structure import Symbol, folds, symbols
from builder.version import VERSION
from grammar.diagnostics import Diagnostic

PAUSE = 0.2
"""Seconds without a key typed before a changed document is looked at."""

REQUEST_FAILED = -32803
"""The error code of a request that makes sense but cannot be done (LSP 3.17, ErrorCodes)."""

TRIGGERS = ["-", "=", ",", "$", "{", "/", "."]

_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "info": types.DiagnosticSeverity.Information,
}
_KINDS = {
    "keyword": types.CompletionItemKind.Keyword,
    "flag": types.CompletionItemKind.Property,
    "value": types.CompletionItemKind.Value,
    "stage": types.CompletionItemKind.Module,
    "variable": types.CompletionItemKind.Variable,
    "file": types.CompletionItemKind.File,
    "folder": types.CompletionItemKind.Folder,
}

Answer = TypeVar("Answer")


class Server(LanguageServer):
    """A server for one editor. `documents` are the open ones, by their URI."""

    def __init__(self) -> None:
        # All of a text comes with each change: pygls would part it into lines where Python does, at form
        # feeds and U+2028 too, and edit the wrong ones.
        super().__init__("pybuild", VERSION, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.documents: dict[str, Document] = {}
        self.finished = False
        """Whether the editor has said that it is done: to vanish without is an error."""
        self.pages = documentation()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def encoding(self) -> str:
        """What positions count in: utf-8, utf-16 or utf-32."""
        kind = self.workspace.position_encoding
        return kind.value if isinstance(kind, types.PositionEncodingKind) else str(kind)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Tell the editor's log what pygls could not do: a message that is none, a failed notification."""
        if source is FeatureRequestError:  # the answer says so
            return
        self.log(f"{type(error).__name__}: {error}")

    def log(self, message: str) -> None:
        """Write to the editor's log."""
        self.window_log_message(types.LogMessageParams(type=types.MessageType.Error, message=message))

    def opened(self, uri: str, text: str, version: int | None, pause: float) -> None:
        """Take a new version of a document, and look for what is wrong with it after a pause."""
        document = Document(text, uris.to_fs_path(uri) or "", version)
        self.documents[uri] = document
        task = asyncio.get_running_loop().create_task(self._publish(uri, document, pause))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def saved(self, uri: str) -> None:
        """Look again at the documents that may include the one that was saved."""
        for other, document in list(self.documents.items()):
            if other != uri and "INCLUDE" in document.text.upper():
                self.opened(other, document.text, document.version, 0)

    def closed(self, uri: str) -> None:
        """Forget a document, and what was said of it."""
        self.documents.pop(uri, None)
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))

    async def _publish(self, uri: str, document: Document, pause: float) -> None:
        if pause:
            await asyncio.sleep(pause)
        if self.documents.get(uri) is not document:
            return
        try:
            found = await asyncio.to_thread(lambda: [self.diagnostic(document, p) for p in document.problems])
        except Exception:
            self.log(traceback.format_exc())
            found = []
        if self.documents.get(uri) is document:
            self.text_document_publish_diagnostics(
                types.PublishDiagnosticsParams(uri, found, document.version)
            )

    # From ours to the protocol's.

    def offset(self, document: Document, position: types.Position) -> int:
        """Return the offset of an editor's position."""
        return document.offset_at(position.line, position.character, self.encoding)

    def range(self, document: Document, where: Range) -> types.Range:
        """Return a range as the editor has it."""
        start, end = (document.position(at, self.encoding) for at in (where.start, where.end))
        return types.Range(types.Position(*start), types.Position(*end))

    def edits(self, document: Document, edits: Sequence[Edit]) -> list[types.TextEdit]:
        """Return edits as the editor has them."""
        return [types.TextEdit(self.range(document, edit.range), edit.text) for edit in edits]

    def diagnostic(self, document: Document, found: Diagnostic) -> types.Diagnostic:
        """Return a diagnostic, with its hint in the text and a link to the page about it."""
        path = page(found.rule, self.pages)
        link = uris.from_fs_path(path) if path else None
        return types.Diagnostic(
            range=self.range(document, document.range(found.span)),
            message=found.message + (f"\n{found.hint}" if found.hint else ""),
            severity=_SEVERITIES[found.severity],
            code=found.rule,
            code_description=types.CodeDescription(link) if link else None,
            source="pybuild",
            tags=[types.DiagnosticTag.Deprecated] if found.rule in DEPRECATED else None,
        )

    def item(self, document: Document, at: int, item: Item) -> types.CompletionItem:
        """Return something to insert. The order is ours."""
        return types.CompletionItem(
            label=item.label,
            kind=_KINDS[item.kind],
            detail=item.detail or None,
            documentation=_markdown(item.documentation) if item.documentation else None,
            text_edit=types.TextEdit(self.range(document, item.range), item.text),
            sort_text=f"{at:05}",
        )

    def symbol(self, document: Document, symbol: Symbol) -> types.DocumentSymbol:
        """Return an entry of the outline."""
        stage = symbol.kind == "stage"
        return types.DocumentSymbol(
            name=symbol.name,
            kind=types.SymbolKind.Module if stage else types.SymbolKind.Function,
            range=self.range(document, symbol.range),
            selection_range=self.range(document, symbol.selection),
            detail=symbol.detail,
            children=[self.symbol(document, child) for child in symbol.children],
        )

    def action(self, uri: str, document: Document, action: Action) -> types.CodeAction:
        """Return something that can be done about a diagnostic."""
        return types.CodeAction(
            title=action.title,
            kind=types.CodeActionKind.QuickFix,
            diagnostics=[self.diagnostic(document, action.diagnostic)],
            is_preferred=action.preferred,
            edit=types.WorkspaceEdit(changes={uri: self.edits(document, action.edits)}),
        )


def _markdown(text: str) -> types.MarkupContent:
    return types.MarkupContent(types.MarkupKind.Markdown, text)


def make_server() -> Server:
    """Return a server that knows what to do, not yet started."""
    # What is worth being known goes to the editor's log; standard error would have each thing again.
    logging.getLogger("pygls").setLevel(logging.CRITICAL)
    server = Server()
    _follow(server)
    for method, options, answer in _REQUESTS:
        _answer(server, method, options, answer)
    return server


def _follow(server: Server) -> None:
    """Follow which documents are open, and what is in them."""

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
        opened = params.text_document
        ls.opened(opened.uri, opened.text, opened.version, 0)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(ls: Server, params: types.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        text = ls.workspace.get_text_document(uri).source
        ls.opened(uri, text, params.text_document.version, PAUSE)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(ls: Server, params: types.DidSaveTextDocumentParams) -> None:
        ls.saved(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
        ls.closed(params.text_document.uri)

    @server.feature(types.SHUTDOWN)
    def shutdown(ls: Server, _params: Any) -> None:
        ls.finished = True


def _answer(
    server: Server, method: str, options: Any, answer: Callable[[Server, Document, Any], Answer | None]
) -> None:
    """Answer the requests `method` about documents that are open."""

    @server.feature(method, options)
    def handle(ls: Server, params: Any) -> Answer | None:
        document = ls.documents.get(params.text_document.uri)
        if document is None:
            return None
        try:
            return answer(ls, document, params)
        except Refused as refused:
            raise JsonRpcException(str(refused), REQUEST_FAILED) from None
        except Exception:
            ls.log(traceback.format_exc())
            return None


def _hover(ls: Server, document: Document, params: types.HoverParams) -> types.Hover | None:
    found = hover(document, ls.offset(document, params.position))
    return types.Hover(_markdown(found[0]), ls.range(document, found[1])) if found else None


def _completion(ls: Server, document: Document, params: types.CompletionParams) -> list[types.CompletionItem]:
    found = completions(document, ls.offset(document, params.position))
    return [ls.item(document, at, item) for at, item in enumerate(found)]


def _definition(ls: Server, document: Document, params: types.DefinitionParams) -> types.Location | None:
    target = definition(document, ls.offset(document, params.position))
    if target is None:
        return None
    if target.path is None:
        return types.Location(params.text_document.uri, ls.range(document, target.range))
    where = ls.range(target.document or Document(""), target.range)
    uri = uris.from_fs_path(target.path)
    return types.Location(uri, where) if uri else None


def _references(ls: Server, document: Document, params: types.ReferenceParams) -> list[types.Location]:
    found = occurrences(document, ls.offset(document, params.position))
    return [
        types.Location(params.text_document.uri, ls.range(document, each.range))
        for each in found
        if params.context.include_declaration or not each.write
    ]


def _highlight(
    ls: Server, document: Document, params: types.DocumentHighlightParams
) -> list[types.DocumentHighlight]:
    kinds = {True: types.DocumentHighlightKind.Write, False: types.DocumentHighlightKind.Read}
    return [
        types.DocumentHighlight(ls.range(document, each.range), kinds[each.write])
        for each in occurrences(document, ls.offset(document, params.position))
    ]


def _prepare_rename(ls: Server, document: Document, params: types.PrepareRenameParams) -> types.Range | None:
    where = renamable(document, ls.offset(document, params.position))
    return ls.range(document, where) if where else None


def _rename(ls: Server, document: Document, params: types.RenameParams) -> types.WorkspaceEdit:
    places = rename(document, ls.offset(document, params.position), params.new_name)
    edits = ls.edits(document, [Edit(place, params.new_name) for place in places])
    return types.WorkspaceEdit(changes={params.text_document.uri: edits})


def _formatting(ls: Server, document: Document, _params: Any) -> list[types.TextEdit]:
    return ls.edits(document, formatting(document))


def _symbols(ls: Server, document: Document, _params: Any) -> list[types.DocumentSymbol]:
    return [ls.symbol(document, symbol) for symbol in symbols(document)]


def _folding(ls: Server, document: Document, _params: Any) -> list[types.FoldingRange]:
    kinds = {"comment": types.FoldingRangeKind.Comment, "region": types.FoldingRangeKind.Region}
    found: list[types.FoldingRange] = []
    for fold in folds(document):
        first, last = (
            document.position(document.offset(n, 1), ls.encoding)[0] for n in (fold.first, fold.last)
        )
        found.append(types.FoldingRange(first, last, kind=kinds[fold.kind]))
    return found


def _actions(ls: Server, document: Document, params: types.CodeActionParams) -> list[types.CodeAction]:
    where = Range(ls.offset(document, params.range.start), ls.offset(document, params.range.end))
    return [ls.action(params.text_document.uri, document, action) for action in actions(document, where)]


_REQUESTS: tuple[tuple[str, Any, Callable[[Server, Document, Any], Any]], ...] = (
    (types.TEXT_DOCUMENT_HOVER, None, _hover),
    (types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=TRIGGERS), _completion),
    (types.TEXT_DOCUMENT_DEFINITION, None, _definition),
    (types.TEXT_DOCUMENT_REFERENCES, None, _references),
    (types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT, None, _highlight),
    (types.TEXT_DOCUMENT_PREPARE_RENAME, None, _prepare_rename),
    (types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True), _rename),
    (types.TEXT_DOCUMENT_FORMATTING, None, _formatting),
    (types.TEXT_DOCUMENT_DOCUMENT_SYMBOL, None, _symbols),
    (types.TEXT_DOCUMENT_FOLDING_RANGE, None, _folding),
    (
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix]),
        _actions,
    ),
)
