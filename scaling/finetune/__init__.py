"""Fine-tuning: a model learns a task."""
