"""Labelled tasks: their rows, splits, subsets."""
