"""Measurements and demonstrations on real input: they use Frazil as a user would, and nothing of Frazil imports them."""
