"""What ``frazil doctor`` looks at before users do; each finding has a severity, its evidence and its fix (docs/doctor.md).

:mod:`.store` tries the object store, :mod:`.cluster` looks at a Knative cluster through its API (extra ``knative``), and
:mod:`.manifests` at what is deployed there; :mod:`.findings` are the values. Nothing is changed but objects of a fresh name
in the store, which are deleted again.
"""
