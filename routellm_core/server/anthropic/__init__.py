"""Anthropic's Messages API over both kinds of models: passed on to Anthropic's own, translated for all others."""
