"""What ``frazil deploy`` and ``frazil undeploy`` do (docs/deploy.md).

:mod:`.rendering` has kustomize make objects of the manifests; :mod:`.objects` gives them a release and an order, compares
them with a cluster's, and keeps the list of what was applied (pure); :mod:`.applying` asks, applies, waits and deletes.
"""
