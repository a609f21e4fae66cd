"""Fine-tuning of transformers, shared by ``bert`` and ``causal_llm``: options, loop, resumable state."""
