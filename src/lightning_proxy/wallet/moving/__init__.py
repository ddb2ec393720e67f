"""Channels that move: what a wallet says in them, what it keeps of them, and its payments."""
