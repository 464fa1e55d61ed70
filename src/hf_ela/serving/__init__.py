"""Answers to requests: what an endpoint on the Hub and `hf-ela serve` share, and that server."""
