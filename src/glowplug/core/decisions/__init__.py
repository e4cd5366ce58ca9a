"""The decisions: each a pure question asked of the state, none of them changes it."""
