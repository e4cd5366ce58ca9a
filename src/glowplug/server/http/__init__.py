"""The nouns over HTTP: what there is, who holds it, why it waits. One file a noun. Calls are frames."""
