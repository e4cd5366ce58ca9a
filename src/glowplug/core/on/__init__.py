"""What each event changes: one function an event, one file a noun."""
