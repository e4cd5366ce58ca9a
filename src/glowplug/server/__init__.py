"""The kernel: events into the core, commands out to nodes, results back to clients."""
