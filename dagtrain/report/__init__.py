"""What a person sees while training runs: a line for each epoch, a progress bar between them."""

from dagtrain.report.console import Reporter

__all__ = ["Reporter"]
