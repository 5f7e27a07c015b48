"""The command `dagtrain`: draw an expression, train a network on real data, tell about the installation."""

from dagtrain.cli.commands import main

__all__ = ["main"]
