"""Who shares a coordinator: tenants with their quotas and rights, the tokens of those who ask, and who else makes some.

Values, and the file that they are read from (docs/tenants.md). Nothing here knows a query. Who holds queries to them:
:mod:`frazil_coordinator.api.auth` (who may ask), :mod:`frazil_coordinator.identity` (whether a token is what it says),
:mod:`frazil_coordinator.rights` (what for),
:mod:`frazil_coordinator.admission` (when it has its turn), :mod:`frazil_coordinator.schedule.slots` (how slots are shared).
"""

from frazil_coordinator.tenancy.config import read_tenants
from frazil_coordinator.tenancy.issuers import Issuer
from frazil_coordinator.tenancy.kubernetes import Binding, Kubernetes
from frazil_coordinator.tenancy.model import DEFAULT_TENANT, PRIORITIES, Tenant, Tenants, Token
from frazil_coordinator.tenancy.roles import Role

__all__ = [
    "DEFAULT_TENANT",
    "PRIORITIES",
    "Binding",
    "Issuer",
    "Kubernetes",
    "Role",
    "Tenant",
    "Tenants",
    "Token",
    "read_tenants",
]
