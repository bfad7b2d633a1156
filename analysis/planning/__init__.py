"""Before money is spent: planned runs, the noise floor, what a plan can see, and which runs to add."""
