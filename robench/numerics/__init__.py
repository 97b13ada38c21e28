"""Pure tensor functions: projections, losses, counter-based draws, the one gradient-ascent loop."""
