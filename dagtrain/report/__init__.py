"""The console output of training: a line for each epoch, and a progress bar."""

from dagtrain.report.console import Reporter

__all__ = ["Reporter"]
