"""What the kernel needs of the world, as Protocols. Adapters are in backends/ and store/."""
