"""From recorded trials to honest exponents: table, envelope, fit, verdict, report.

`fit_table` fits a curve to any table; it is imported when first used, so that study files stay quick to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.fits.table_fit import TableFit, fit_table

__all__ = ["TableFit", "fit_table"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from analysis.fits import table_fit

        return getattr(table_fit, name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
