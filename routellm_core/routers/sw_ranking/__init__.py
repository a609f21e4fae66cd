"""The router ``sw_ranking``: similarity-weighted Bradley–Terry over battles."""
