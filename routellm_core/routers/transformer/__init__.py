"""The routers ``bert`` and ``causal_llm``: fine-tuned language models."""
