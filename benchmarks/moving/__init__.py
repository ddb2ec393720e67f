"""Channels that move, for `benchmarks.payments`: a peer and its wallets, each a process."""
