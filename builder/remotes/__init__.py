"""What a build takes from elsewhere: files behind URLs, and git repositories.

`address` reads what a recipe or a command line names, without touching anything; `http` and the `git_*`
modules fetch; `sources` has the two under one roof for a build, remembers what was fetched, and heeds what is
pinned.
"""
