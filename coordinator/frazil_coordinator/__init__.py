"""The coordinator: plans a query into stages, schedules their tasks on a platform, and serves all that over HTTP.

Main path: :mod:`frazil_coordinator.coordinator` (one object that owns all queries; :mod:`frazil_coordinator.api` is its HTTP
face) → :mod:`frazil_coordinator.plan` → :mod:`frazil_coordinator.schedule.driver` → :mod:`frazil_coordinator.platform`.
"""
