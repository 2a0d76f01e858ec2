"""Honest evaluation: predictions against truth, by patient, with intervals (extra: evaluate)."""
