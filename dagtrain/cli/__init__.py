"""The command `dagtrain`: draw an expression, train a network on real data, plan its scaling, describe the installation."""

from dagtrain.cli.commands import main

__all__ = ["main"]
