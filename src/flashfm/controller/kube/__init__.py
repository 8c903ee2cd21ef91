"""Kubernetes: what the controller reads of a cluster and sets there; the only package that talks to its API."""
