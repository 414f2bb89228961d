"""Slow, obvious twins of fast code, and assertions that tests share."""
