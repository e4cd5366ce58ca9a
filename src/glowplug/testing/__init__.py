"""Public fakes and the simulation: the real core in a world whose clock, network and machines are drawn by a
seed."""
