"""Asking models and keeping what they say: labels for a user's own prompts, and answers to benchmarks.

One runner under one set of limits (:mod:`~routellm_core.asking.calls`) over one kind of file
(:mod:`~routellm_core.asking.store`): whatever fails, a run ends, and the next one goes on from there.
"""
