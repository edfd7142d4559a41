"""Hostile plans: mutations of real ones, and what the coordinator does with them."""
