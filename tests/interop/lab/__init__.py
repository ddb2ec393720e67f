"""Real Lightning peers for the interop suite: how they are built, started and driven."""
