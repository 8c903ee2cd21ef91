"""A regressor of the synthetic world, and applications that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from flashfm.adapt.fewshot import FlashRegressor

if TYPE_CHECKING:
    from flashfm.models.flash import FlashModel

Frames = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def regressor(pretrained: FlashModel) -> FlashRegressor:
    return FlashRegressor(pretrained)


@pytest.fixture(scope="module")
def apps(synthetic: Callable[..., pd.DataFrame]) -> Frames:
    """Unseen applications, six rows each."""
    return {str(app): rows.reset_index(drop=True) for app, rows in synthetic(30, seed=7).groupby("app")}


@pytest.fixture(scope="module")
def app(apps: Frames) -> pd.DataFrame:
    return next(iter(apps.values()))
