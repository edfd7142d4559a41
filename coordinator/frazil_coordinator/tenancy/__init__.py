"""Who shares a coordinator: tenants with their quotas and rights, and the tokens of those who ask for them.

Values, and the file that they are read from (docs/tenants.md). Nothing here knows a query. Who holds queries to them:
:mod:`frazil_coordinator.api.auth` (who may ask), :mod:`frazil_coordinator.rights` (what for),
:mod:`frazil_coordinator.admission` (when it has its turn), :mod:`frazil_coordinator.schedule.slots` (how slots are shared).
"""

from frazil_coordinator.tenancy.config import read_tenants
from frazil_coordinator.tenancy.model import DEFAULT_TENANT, PRIORITIES, Role, Tenant, Tenants, Token

__all__ = ["DEFAULT_TENANT", "PRIORITIES", "Role", "Tenant", "Tenants", "Token", "read_tenants"]
