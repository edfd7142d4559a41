"""Who may do what: role-based access control, by the rules of Roles as they stand in manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ADMIN", "Rights", "Wish"]

ADMIN = "admin-token"
"""Token of a user who may do everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request wants to do."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def denial(self, user: str) -> str:
        """Return the words of the API server."""
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        what = f'{self.resource}.{self.group} "{self.name}"' if self.group else f'{self.resource} "{self.name}"'
        what = what if self.name else what.replace(' ""', "")
        wanted = f'{self.verb} resource "{self.resource}" in API group "{self.group}" {where}'
        return f'{what} is forbidden: User "{user}" cannot {wanted}'


@dataclass
class Rights:
    """The table: users by token, and the rules that each is bound to."""

    users: dict[str, str] = field(default_factory=lambda: {ADMIN: "admin"})
    """Name by token; a request with another token is refused with 401."""

    rules: dict[str, list[tuple[str, Mapping[str, Any]]]] = field(default_factory=dict)
    """Of a user: the namespace that a rule holds in ("" for all), and the rule of a Role."""

    used: set[tuple[str, str, str]] = field(default_factory=set)
    """Verb, group and resource of everything that users other than the admin have asked for."""

    def add(self, token: str, user: str, rules: Sequence[Mapping[str, Any]], namespace: str = "") -> None:
        """Let a user do what the rules of a Role (or of a ClusterRole, where `namespace` is empty) say."""
        self.users[token] = user
        self.rules.setdefault(user, []).extend((namespace, rule) for rule in rules)

    def take(self, user: str, verb: str, resource: str) -> None:
        """Take one verb on one resource away from a user."""
        self.rules[user] = [
            (
                where,
                {**rule, "resources": [one], "verbs": [each for each in rule["verbs"] if (each, one) != (verb, resource)]},
            )
            for where, rule in self.rules[user]
            for one in rule["resources"]
        ]

    def allows(self, user: str, wish: Wish) -> bool:
        """Return whether a user may."""
        if user == "admin":
            return True
        self.used.add((wish.verb, wish.group, wish.resource))
        return any(
            where in ("", wish.namespace)
            and wish.group in rule["apiGroups"]
            and wish.resource in rule["resources"]
            and wish.verb in rule["verbs"]
            and (not rule.get("resourceNames") or wish.name in rule["resourceNames"])
            for where, rule in self.rules.get(user, [])
        )
