"""Tollgate: a multi-provider LLM routing proxy with quota billing. The map of the house is in README.md."""
