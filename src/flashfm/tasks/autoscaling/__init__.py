"""Autoscaling: the dynamics of replicated applications under load, their parameters, loads and environments."""
