"""The one reader of prompts and labelled rows: every command and every Python function that takes rows takes these."""
