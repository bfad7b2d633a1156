"""A fine-tuned model made smaller or faster, and what is left of it."""
