"""Pictures and pages: what was measured, predicted and found out. The only package that uses matplotlib or jinja2."""

from flashfm.reporting.cdf import error_cdf
from flashfm.reporting.curves import (
    curve_points,
    principal_platform,
    rate_curves,
    representative_apps,
    runtime_curves,
)
from flashfm.reporting.dots import score_dots
from flashfm.reporting.embedding_map import embedding_map
from flashfm.reporting.loads import load_panels
from flashfm.reporting.page import Section, Table, write_page
from flashfm.reporting.predicted import predicted_curves
from flashfm.reporting.style import PALETTE

__all__ = [
    "PALETTE",
    "Section",
    "Table",
    "curve_points",
    "embedding_map",
    "error_cdf",
    "load_panels",
    "predicted_curves",
    "principal_platform",
    "rate_curves",
    "representative_apps",
    "runtime_curves",
    "score_dots",
    "write_page",
]
