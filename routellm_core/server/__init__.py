"""The OpenAI-compatible server: one decision, then the request and the answer's bytes are passed on."""
