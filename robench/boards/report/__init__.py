"""The report on one defense: what it says, its pictures, and its two forms."""
