"""moto as a server that keeps what it is told: run as a file, with moto's own arguments.

Of node groups moto forgets how they are updated and makes up an SSH key, and it writes the JSON of a queue's redrive policy
with spaces, which AWS does not. Each would be a change that terraform plans for ever.
"""

from __future__ import annotations

import functools
import json
import sys
from types import SimpleNamespace
from typing import Any

from moto.eks import models as eks
from moto.eks import responses
from moto.server import main
from moto.sqs import models as sqs

__all__: list[str] = []


def _keep_what_is_told() -> None:
    made = responses.EKSResponse.create_nodegroup

    @functools.wraps(made)
    def create_nodegroup(self: Any) -> Any:
        answer = made(self)
        group = self.eks_backend.describe_nodegroup(self._get_param("name"), self._get_param("nodegroupName"))
        group.update_config = self._get_param("updateConfig")
        return answer

    setattr(eks, "DEFAULT_REMOTE_ACCESS", None)  # noqa: B010  # moto's type says that there always is one
    setattr(responses.EKSResponse, "create_nodegroup", create_nodegroup)  # noqa: B010  # as above, a method
    compact = functools.partial(json.dumps, separators=(",", ":"))
    setattr(sqs, "json", SimpleNamespace(**{**vars(json), "dumps": compact}))  # noqa: B010  # as above, a module


if __name__ == "__main__":
    _keep_what_is_told()
    main(sys.argv[1:])
