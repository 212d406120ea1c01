"""Files, synchronously: names, the one gate for writing, and the sender's scan."""
