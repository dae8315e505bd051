"""The gateway: what comes in, what goes out, and the console."""

# Also where the program runs from its folder and no installation knows it.
VERSION = "0.1.0"
