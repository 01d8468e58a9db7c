"""The version of pybuild, which records, histories and the user agent bear."""

VERSION = "0.1.0"
