"""Floods against a relay with default limits: what do they cost those who mean well?

`python -m tests.attack --flood pings --flood dials --seconds 5`. A real `lightning-proxy serve`
process is flooded by what costs an attacker nothing: throw-away keys and sessions, no coins.
Beside it are an honest wallet, logged in and with a webhook, an honest peer, and a wallet that
sleeps. Each flood is measured before, while and after it runs, by what those see:

- how long the peer's pings take, a login, a dial (one that is told to come again later is none);
- whether every message of the peer's reaches the wallet, and the sleeping one is woken;
- how much memory and processor time the relay takes.

Exit code 1 where a flood grows the relay by more than 64 MB, delays a ping by more than 50 ms (99
of 100) or a login by more than a second, or loses anything.

The relay has one CPU for itself, everything else shares another: the attackers, each in a process
of its own, with less priority, so that the honest ones' clocks are not theirs to hold up. Attackers
come from whatever network they say: the relay is told to believe its proxies, and to take loopback
for one. All else is as `serve` has it by default.
"""
