"""Text -> Recipe. Pure: no disk, no network, no clock."""
