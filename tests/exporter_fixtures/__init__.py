"""Images for the exporters, and the tools of the field that read what comes out."""
