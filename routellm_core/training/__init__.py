"""Training: labelled prompts in, a checkpoint folder out. Serving imports none of it."""
