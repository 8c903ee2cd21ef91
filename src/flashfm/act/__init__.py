"""What to do: pure decisions over predictions, each with its reasons. No model, no files but price tables, no torch."""

from flashfm.act.autoscale import Nodes, ScalingDecision, Terms
from flashfm.act.decisions import Candidates, Choice, Declined, Estimate, Recommendation
from flashfm.act.prices import LambdaPrice, Price, PriceTable, ResourcePrice, load_prices
from flashfm.act.recommend import OBJECTIVES, recommend

__all__ = [
    "OBJECTIVES",
    "Candidates",
    "Choice",
    "Declined",
    "Estimate",
    "LambdaPrice",
    "Nodes",
    "Price",
    "PriceTable",
    "Recommendation",
    "ResourcePrice",
    "ScalingDecision",
    "Terms",
    "load_prices",
    "recommend",
]
