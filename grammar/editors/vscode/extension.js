// Starts `pybuild lsp`, and hands it what the editor has open. Plain JavaScript: nothing is compiled.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

/** @type {LanguageClient | undefined} */
let client;

/** The documents that the server is for. */
function selector() {
  const languages = ["pybuild-recipe"];
  if (vscode.workspace.getConfiguration("pybuild").get("dockerfiles", true)) {
    languages.push("dockerfile");
  }
  return languages.flatMap((language) => [
    { scheme: "file", language },
    { scheme: "untitled", language },
  ]);
}

async function start() {
  const [command, ...args] = vscode.workspace.getConfiguration("pybuild").get("command", ["pybuild", "lsp"]);
  client = new LanguageClient("pybuild", "pybuild", { command, args }, { documentSelector: selector() });
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    const hint = "Is it installed, with its language server (pip install 'pybuild[lsp]')? The setting pybuild.command says where.";
    vscode.window.showErrorMessage(`pybuild: ${command} cannot be started. ${hint}`);
  }
}

async function stop() {
  const running = client;
  client = undefined;
  if (running) {
    await running.stop();
  }
}

async function activate(context) {
  context.subscriptions.push(
    vscode.commands.registerCommand("pybuild.restart", async () => {
      await stop();
      await start();
    }),
    vscode.workspace.onDidChangeConfiguration(async (change) => {
      if (change.affectsConfiguration("pybuild")) {
        await stop();
        await start();
      }
    }),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
