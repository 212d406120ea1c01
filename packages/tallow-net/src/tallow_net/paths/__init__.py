"""Paths between two peers: which addresses they try, and in which order."""
