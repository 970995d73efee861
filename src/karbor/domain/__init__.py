"""Rules without I/O: what things are, which states they have, what follows from what."""
