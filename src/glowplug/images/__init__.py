"""From an image's definition to an environment: what is built, kept, found again and forgotten."""
