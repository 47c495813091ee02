"""Parametric models, per class in families; each family belongs to training or to validation, never to both."""
