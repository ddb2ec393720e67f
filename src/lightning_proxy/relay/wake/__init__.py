"""Wakes wallets that are away: by webhook and Web Push, with room for other ways."""
