"""The compiled loops, and the scalar math under them."""
