"""What pretraining is worth to tasks: fine-tunings and compressions, read beside a study of losses."""
