"""A double of the Kubernetes API with Knative Serving: :mod:`support.kube_api.server` says what it does."""

from support.kube_api.fields import Object
from support.kube_api.rights import ADMIN, Rights
from support.kube_api.server import KubeApi, kube_api

__all__ = ["ADMIN", "KubeApi", "Object", "Rights", "kube_api"]
