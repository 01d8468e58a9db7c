"""An editor, as far as the language server sees one."""
