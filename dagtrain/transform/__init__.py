"""From graph to graph: derivatives, rewrites, stages, and the checker."""

from dagtrain.graph.protocols import VERIFY
from dagtrain.transform import batching_rules
from dagtrain.transform.gradient import gradient, vjp_graph
from dagtrain.transform.rewrite import RuleSet, simplify
from dagtrain.transform.rules import APPROXIMATE, EXACT, STABLE, Rule
from dagtrain.transform.stages import STAGES, optimize, stabilise
from dagtrain.transform.verify import verify

__all__ = [
    "APPROXIMATE",
    "EXACT",
    "STABLE",
    "STAGES",
    "Rule",
    "RuleSet",
    "gradient",
    "optimize",
    "simplify",
    "stabilise",
    "verify",
    "vjp_graph",
]

VERIFY.fill(verify)
