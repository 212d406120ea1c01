"""Transports: open byte streams over QUIC, TLS, TCP or memory, their listeners and the race to connect."""
