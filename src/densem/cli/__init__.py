"""The command line: a command parses, calls one function, prints what came of it."""

from densem.cli.app import main

__all__ = ["main"]
