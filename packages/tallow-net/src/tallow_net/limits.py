"""Every limit of tallow_net, with its reason and what it costs.

Protocol limits are the same on both ends, and a change of one is a change of the wire. Local limits are this
end's own choice.
"""

from typing import Final

# --- protocol limits: lengths and counts --------------------------------------------------------------------

PLAIN_FRAME_BYTES: Final = 4 * 1024
"""Longest frame body before keys exist. Reply, the longest, has 1,765 bytes; a stranger can make us hold no
more than this."""

SEALED_FRAME_BYTES: Final = 4 * 1024 * 1024 + 8 * 1024
"""Longest frame body once keys exist: a chunk of 4 MiB, its header, digest, padding and tag."""

SIGNALING_FRAME_BYTES: Final = 4 * 1024
"""Longest body of a SignalingMessage. A Join for 64 rooms, the longest, has under 2,300 bytes."""

ROOM_ID_BYTES: Final = 32
"""A room id: BLAKE3 of the nameplate, or of a shared secret."""

LEASE_BYTES: Final = 16
"""A lease, and the one-time token of a Call: 128 random bits cannot be guessed."""

TOKEN_BYTES: Final = 32
"""The token that opens a plain data connection through the relay."""

TOKENS_PER_READY: Final = 4
"""Data connections that a pair may open: one in use, three for retries and moves."""

ROOMS_PER_JOIN: Final = 64
"""Rooms in one Join; 64 ids of 32 bytes fit in a signaling frame with room to spare."""

CANDIDATES: Final = 16
"""Addresses that a side may offer for a direct path: two kinds on eight addresses; 40 bytes each."""

VERSIONS_PER_WELCOME: Final = 16
"""Protocol versions that a relay may list."""

NOTICE_BYTES: Final = 1024
"""Longest notice of a relay, in UTF-8: a few sentences."""

OBSERVED_ADDRESS_BYTES: Final = 64
"""Longest client address in Welcome: an IPv6 address with brackets and port has 47."""

NAMEPLATE_DIGITS: Final = 12
"""Longest nameplate that a relay may hand out, as long as the longest that a code may have."""

HOST_BYTES: Final = 253
"""Longest host name (RFC 1035, section 2.3.4, as text)."""

RETRY_AFTER_S: Final = 7 * 24 * 3600
"""Longest time to retry that an Error may carry: a monthly quota is asked about once a week at the least."""

RESTART_MS: Final = 3600 * 1000
"""Longest reconnect_in and try_for of a Restarting, one hour in milliseconds."""

IN_FLIGHT_BYTES: Final = 16 * 1024 * 1024
"""Bytes that a pair may have under way in each direction unless Welcome says otherwise."""

IN_FLIGHT_MIN_BYTES: Final = 64 * 1024
"""Least in-flight limit that a Welcome may set: the smallest chunk. Less would stop every transfer."""

IN_FLIGHT_MAX_BYTES: Final = 1024 * 1024 * 1024
"""Largest in-flight limit that a Welcome may set; the sender's own window stays the tighter bound."""

MAX_WAIT_S: Final = 24 * 3600
"""How long a room may wait for its second side unless Welcome says otherwise."""

MAX_WAIT_MAX_S: Final = 365 * 24 * 3600
"""Longest max_wait that a Welcome may announce."""

CBOR_DEPTH: Final = 8
"""Deepest nesting of a message; the deepest of ours has three levels."""

CBOR_KEY: Final = 23
"""Largest map key: what one byte of CBOR carries."""

# --- protocol limits: times, in seconds -----------------------------------------------------------------------

KEEP_ALIVE_S: Final = 20.0
"""A waiting client is heard of this often; NATs forget an idle UDP flow after 30 s and more."""

SILENCE_S: Final = 45.0
"""A relay that was silent this long is dead: two keep-alives were not echoed."""

READY_ANSWER_S: Final = 10.0
"""Each side answers Ready within this, or both legs are closed."""

HANDSHAKE_FRAME_S: Final = 10.0
"""Each frame between Ready and keys is due within this."""

PAIR_IDLE_S: Final = 120.0
"""The relay closes a pair that moved no byte for this long."""

ROOM_SILENCE_S: Final = 60.0
"""A waiting room ends when its peer was not heard of for this long."""

TOMBSTONE_SPENT_S: Final = 600.0
"""How long the relay says that a room was spent or burned."""

TOMBSTONE_PAIRED_S: Final = 60.0
"""How long the relay keeps a room's entry after its pair ended."""

# --- local limits ------------------------------------------------------------------------------------------------

PAIR_IN_FLIGHT_BYTES: Final = IN_FLIGHT_BYTES
"""The relay's default for Welcome, and what a client assumes until a Welcome came."""

ANSWER_S: Final = 10.0
"""A relay answers Join, Allocate and Leave within this; an honest one needs a round trip."""

CONNECT_S: Final = 20.0
"""All attempts to reach a relay for the first time, every address together."""

LEAVE_S: Final = 2.0
"""Leave is a courtesy: a user who presses Ctrl-C waits no longer than this."""

CLOSE_QUIC_S: Final = 5.0
"""QUIC: how long close() waits for acknowledgement; CONNECTION_CLOSE drops what is unsent."""

CLOSE_TCP_S: Final = 2.0
"""TCP: how long close() drains after shutdown; closing with unread bytes sends RST."""

HALF_CLOSE_S: Final = 10.0
"""The relay keeps the other direction this long after one side finished."""

FLUSH_S: Final = 5.0
"""The relay flushes the healthy leg this long after the other broke."""

FIRST_WAIT_S: Final = 0.3
"""The second transport is raced in after this."""

SMALL_SEGMENT_BYTES: Final = 1220
"""TCP segments that every path carries: the 1,280 bytes that IPv6 promises, less its header and TCP's. A path may
swallow larger packets and never say so (a tunnel or PPPoE in it, behind a firewall that drops ICMP)."""

BACKOFF_FIRST_S: Final = 0.5
"""Ceiling of the first wait before a reconnection; the wait is drawn below it."""

BACKOFF_MAX_S: Final = 30.0
"""Ceiling of every later wait; under the 60 s after which a relay ends a waiting room."""

RECONNECT_FOR_S: Final = 600.0
"""How long a waiting client goes on trying to come back; then the user is told."""

ROOM_RETURN_S: Final = 30.0
"""After a relay restarted, how long a receiver that was already waiting allows its sender to come back."""

IDLE_REUSE_S: Final = 15.0
"""A connection that allocated a nameplate is used for the Join that follows within this; relays close a client
that says nothing."""

PEER_TEXT_CHARACTERS: Final = 1024
"""Longest form of a peer's text on a screen, in characters, the ellipsis included."""
