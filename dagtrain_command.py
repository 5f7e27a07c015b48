"""The program `dagtrain`: it also ends without a traceback if Ctrl-C comes during imports, which take a second.

It is no part of the package, since importing that is most of the second.
"""

from __future__ import annotations

import os
import signal
from typing import Any

INTERRUPTED = 130


def main() -> Any:
    """Run the command; before it can do anything, Ctrl-C ends the process at once."""
    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # as in a script's background
    if not ignored:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    from dagtrain.cli import main as command

    if not ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return command(prog_name="dagtrain")
