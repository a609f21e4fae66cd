"""The router ``mf``: matrix factorisation over a prompt embedding."""
