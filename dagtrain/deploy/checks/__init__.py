"""All checks, in the order of the report; a new one is a record in its file."""

from dagtrain.deploy.checks import bits, life, memory, network, security, tools, versions

__all__ = ["CHECKS"]

CHECKS = [*versions.CHECKS, *bits.CHECKS, *memory.CHECKS, *network.CHECKS, *life.CHECKS, *security.CHECKS, *tools.CHECKS]
