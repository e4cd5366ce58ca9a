"""The deterministic heart: events in, commands out. No clock, randomness, ids, threads or I/O."""
