"""What is done today without a pretrained model: predictors from shots, and searches for the fastest configuration.

Predictors implement `Method` of `flashfm.tasks.config_search`, searchers the `Searcher` of `flashfm.baselines.search`.
Nothing here reads or writes files. LightGBM and scikit-learn, the extra `baselines`, are imported on use.
"""

from flashfm.baselines.amdahl import Amdahl
from flashfm.baselines.boosting import Boosting, BoostingConfig
from flashfm.baselines.neighbours import NearestApplications
from flashfm.baselines.ratio import AdditiveRatio, CopyNearest
from flashfm.baselines.search import (
    BayesianOptimisation,
    BestAverageList,
    BestPortfolio,
    RandomSearch,
    Searcher,
    regret_curve,
)
from flashfm.tasks.config_search import Method

PREDICTORS: tuple[Method, ...] = (CopyNearest(), AdditiveRatio(), Amdahl(), NearestApplications(), Boosting())
"""Every predictor with its defaults, from the simplest to the strongest."""
SEARCHERS: tuple[Searcher, ...] = (
    RandomSearch(),
    BayesianOptimisation(),
    BayesianOptimisation(start="average"),
    BestAverageList(),
    BestPortfolio(),
)
"""Every search strategy with its defaults."""

__all__ = [
    "PREDICTORS",
    "SEARCHERS",
    "AdditiveRatio",
    "Amdahl",
    "BayesianOptimisation",
    "BestAverageList",
    "BestPortfolio",
    "Boosting",
    "BoostingConfig",
    "CopyNearest",
    "NearestApplications",
    "RandomSearch",
    "Searcher",
    "regret_curve",
]
