"""Searches of other packages, judged like our own. Each is imported when it is asked for."""
