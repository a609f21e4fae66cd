"""Labels for a user's own prompts: both models answer, a judge compares, each row is kept as it comes."""
