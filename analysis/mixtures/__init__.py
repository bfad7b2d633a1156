"""The loss as a surface over mixtures: best mixture, value of a token, exchange rates."""
