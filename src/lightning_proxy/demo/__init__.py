"""The demo: relay, peer and wallet as three processes, and the proof that no private key crossed.

`peer` and `wallet` are programs of their own; `run` starts them and the relay, and watches.
"""
