"""The leaderboard page: its rows, its details, and the template, style and script around them."""
