"""Scoring: the judge, the engine that runs attacks under it, sanity flags, records on disk."""
