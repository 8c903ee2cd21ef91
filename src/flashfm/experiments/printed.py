"""What the paper prints in its Table 1, beside which ours stands, and the names of what is compared there."""

from __future__ import annotations

TITLES = {
    "lambda": "Sizeless (measured lambda)",
    "openwhisk": "OpenWhisk (measured openwhisk)",
    "sizeless-selfhosted": "Sizeless (self-hosted, published by its authors)",
    "cloudbandit": "CloudBandit",
}
"""Data sets, in the order of the table."""
SIZELESS, FLASH = "Sizeless", "FLASH-Sizeless"
"""The paper's two systems."""
TEST, TRAIN = "APE", "APE (training)"
"""Metrics: absolute percentage error on unseen applications, and on those that were trained on."""
TRAINED = (1, 2, 3)
"""Numbers of shots in the paper, for which training errors are kept; its systems are trained for each of them anew."""
_SIZELESS_PRINTED = {
    SIZELESS: {TRAIN: (0.040, 0.036, 0.035), TEST: (0.360, 0.400, 0.336)},
    FLASH: {TRAIN: (0.038, 0.036, 0.032), TEST: (0.046, 0.038, 0.034)},
}
PRINTED: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {
    "lambda": _SIZELESS_PRINTED,
    "openwhisk": {
        SIZELESS: {TRAIN: (0.316, 0.258, 0.236), TEST: (0.823, 0.552, 0.540)},
        FLASH: {TRAIN: (0.321, 0.247, 0.259), TEST: (0.357, 0.263, 0.275)},
    },
    "sizeless-selfhosted": _SIZELESS_PRINTED,
    "cloudbandit": {
        SIZELESS: {TRAIN: (0.610, 0.439, 0.424), TEST: (0.985, 0.889, 0.798)},
        FLASH: {TRAIN: (0.624, 0.416, 0.435), TEST: (0.649, 0.424, 0.497)},
    },
}
"""Table 1 of the paper, for one, two and three shots."""
