"""What the network policies of rendered manifests let through.

As a plugin that knows them decides: they add up, and a pod that none selects is open. Addresses outside the cluster are not
looked at. Used by :mod:`support.references`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from support.manifests import Resource

Spaces: TypeAlias = "frozenset[str]"

__all__ = ["Spaces", "matches", "may_enter", "may_leave"]


def matches(selector: Resource, pod: Resource) -> bool:
    """Whether a selector (labels, and expressions with ``In``) selects a pod by its template."""
    labels = pod["metadata"].get("labels", {})
    exact = selector.get("matchLabels", {}).items() <= labels.items()
    return exact and all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def may_leave(
    resources: Sequence[Resource],
    pod: Resource,
    port: int,
    *,
    there: Resource | None = None,
    spaces: frozenset[str] = frozenset(),
) -> bool:
    """Whether a pod may open a connection to a port of the pod `there`, or of any pod of each of the namespaces `spaces`."""
    return _allowed(resources, pod, port, "Egress", there, spaces)


def may_enter(
    resources: Sequence[Resource],
    pod: Resource,
    port: int,
    *,
    there: Resource | None = None,
    spaces: frozenset[str] = frozenset(),
) -> bool:
    """Whether a port of a pod may be reached by the pod `there`, or by any pod of each of the namespaces `spaces`."""
    return _allowed(resources, pod, port, "Ingress", there, spaces)


def _allowed(
    resources: Sequence[Resource], pod: Resource, port: int, direction: str, there: Resource | None, spaces: frozenset[str]
) -> bool:
    policies = [each["spec"] for each in resources if each["kind"] == "NetworkPolicy"]
    policies = [each for each in policies if direction in each["policyTypes"] and matches(each["podSelector"], pod)]
    rules = [rule for each in policies for rule in each.get(direction.lower(), [])]
    side = "to" if direction == "Egress" else "from"
    return not policies or any(_admits(rule, side, port, there, spaces) for rule in rules)


def _admits(rule: Resource, side: str, port: int, there: Resource | None, spaces: frozenset[str]) -> bool:
    ports = [each["port"] for each in rule.get("ports", [])]
    if ports and port not in ports:
        return False
    return side not in rule or any(_is_peer(peer, there, spaces) for peer in rule[side])


def _is_peer(peer: Resource, there: Resource | None, spaces: frozenset[str]) -> bool:
    if there is not None:
        return "podSelector" in peer and "namespaceSelector" not in peer and matches(peer["podSelector"], there)
    selector = peer.get("namespaceSelector")
    labelled = [{"metadata": {"labels": {"kubernetes.io/metadata.name": space}}} for space in spaces]
    return selector is not None and all(matches(selector, each) for each in labelled)
