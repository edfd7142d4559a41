"""Running a planned query.

Main path: :mod:`~frazil_coordinator.schedule.driver` (asyncio) → :mod:`~frazil_coordinator.schedule.state` (sans-IO) and
:mod:`~frazil_coordinator.schedule.bind` (descriptors to task inputs).
"""
