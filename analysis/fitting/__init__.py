"""Estimation: objectives, the global minimum, intervals, statuses."""
