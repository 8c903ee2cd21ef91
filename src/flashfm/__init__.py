"""flashfm: foundation models for managing cloud systems by learning, after FLASH (Qiu et al., 2023)."""

from __future__ import annotations

__version__ = "0.1.0"
