"""Reading text with a TextMate grammar, as editors do."""
