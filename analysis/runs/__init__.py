"""Reading runs: logs and tables -> runs, points, recipes."""
