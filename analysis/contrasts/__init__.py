"""Recipe against recipe: curves, noise, gaps, multipliers, decisions."""
