"""Do with a hostile plan what the coordinator does with it before a task starts, and say what is wrong with how that went.

Rights first, then planning; a plan may be refused by an error that is its sender's fault, and by no other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import polars as pl

from benchmarks.fuzz.mutate import Yard
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.report import planned_report
from frazil_coordinator.rights import check_places
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenant
from frazil_functions.errors import FrazilError, UserError

__all__ = ["Verdict", "judged"]

_LONG_S: Final = 5.0
_SETTINGS: Final = Settings(start_small=False, max_rows_per_split=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a plan."""

    outcome: str
    """``planned``, or the class of the error."""

    fault: str = ""
    """What is wrong; empty when nothing is."""


def judged(plan: bytes, yard: Yard) -> Verdict:
    """Check and plan, as `frazil_coordinator.rights` and `frazil_coordinator.execution` do."""
    tenant = Tenant(name="fuzz", allowed_prefixes=(str(yard.allowed),))
    began = time.thread_time()
    fault, outcome = "", "planned"
    try:
        check_places(plan, tenant)
        planned_report(plan_query(plan, _SETTINGS))
    except UserError as error:
        outcome = type(error).__name__
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        outcome = f"polars: {type(error).__name__}"
    except FrazilError as error:
        outcome = type(error).__name__
        fault = f"{outcome}: {error}"
    except Exception as error:  # all others are what is looked for
        outcome = "unforeseen"
        fault = f"unforeseen {type(error).__name__}: {error}"
    seconds = time.thread_time() - began
    if seconds > _LONG_S:
        fault = fault or f"it took {seconds:.1f} s of CPU"
    return Verdict(outcome=outcome, fault=fault)
