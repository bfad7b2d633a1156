"""Scaling laws: one file each, and what they have in common."""
