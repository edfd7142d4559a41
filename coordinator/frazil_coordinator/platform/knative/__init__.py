"""Functions on a Knative cluster: sending to its services, and what is asked of its API.

:mod:`.sending` is the platform. With the extra ``knative`` it knows the services by a watch (:mod:`.fleet`,
:mod:`.watching`), starts pods before there are requests (:mod:`.prescale`, :mod:`.scaler`), and keeps the services of a
release while queries use it (:mod:`.releases`, :mod:`.keeper`). :mod:`.api` is the client of the Kubernetes API,
:mod:`.models` its values, :mod:`.errors` what it refuses; :mod:`.cluster` puts them together.
"""

from frazil_coordinator.platform.knative.sending import KnativePlatform

__all__ = ["KnativePlatform"]
