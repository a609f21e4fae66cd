"""The reader of prompts and labelled rows: one schema for every command."""
