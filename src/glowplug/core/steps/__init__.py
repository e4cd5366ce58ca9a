"""The moves: small changes of the state with their commands, which the event handlers are made of."""
