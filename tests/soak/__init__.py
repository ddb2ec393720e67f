"""A relay that is killed at random moments, again and again, under load: does anything get lost?

`python -m tests.soak --kills 200 --seed 7`. A real `lightning-proxy serve` process on a real store
is killed by SIGKILL and started again. Wallets come and go, sleep until they are woken by webhook,
acknowledge, answer, leave key slots; peers send numbered messages and open channels; the network
between all of them splits, delays and cuts. Both sides check every message and every signature:

- what a wallet gets of a session is what its peer sent, from the first message on, without a gap,
  each once and in order; what was on the relay's disk when it was killed is among it;
- what is not acknowledged comes again, just the same, and what is acknowledged never again;
- each `open_channel` has at most one `accept_channel`, and that is what the wallet answered; no
  key is used twice; a channel whose `funding_signed` the peer has is there after each restart;
- each session that ended is reported once, and wallets that sleep are woken for it;
- every request whose result arrived holds after each restart.
"""
