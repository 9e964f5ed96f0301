"""Distributions, likelihoods, divergences, and what samples codes."""
