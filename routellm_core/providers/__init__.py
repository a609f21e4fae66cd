"""The one door to models: how one is reached, what it answers badly, when to try again."""
