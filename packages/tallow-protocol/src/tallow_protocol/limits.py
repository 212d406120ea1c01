"""Every length, count and depth that a peer controls, with the reason for the number and its memory cost.

The first part is the protocol: both sides must agree, and a change is a change of the wire. The second part is
local: this implementation's choice, which the other side never notices.
"""

from __future__ import annotations

from typing import Final

# ---- the protocol ----

HELLO_BYTES: Final = 1738
"""Hello, always full size, so that its length tells nothing."""

REPLY_CORE_BYTES: Final = 1700
"""The hashed part of Reply, without its type byte."""

REPLY_BYTES: Final = 1765
"""Type byte, core and the 64-byte confirm_B."""

CONFIRM_BYTES: Final = 65
ABORT_BYTES: Final = 3
ATTACH_BYTES: Final = 81
"""Type byte, 16-byte tag, 32-byte nonce, 32-byte MAC."""

ACK_BYTES: Final = 65
"""Type byte, 32-byte nonce, 32-byte MAC."""

VERSION_SLOTS: Final = 4
CAPABILITY_SLOTS: Final = 16

CODE_GUESSES: Final = 3
"""Guesses that one process bears for a code: 6 / 7772**3 for both sides together, under 1 in 7 x 10**10."""

CODE_WORDS_MIN: Final = 3
"""Three list words are 38.7 bits, which three guesses a side cannot dent."""

CODE_WORDS_MAX: Final = 16
"""206 bits: more than any key here; keeps a pasted essay from being parsed as a code."""

CODE_TEXT_CHARACTERS_MIN: Final = 12
"""Free text has no computable strength; twelve characters is the floor that the design sets."""

CODE_TEXT_CHARACTERS_MAX: Final = 256
NAMEPLATE_DIGITS_MAX: Final = 12
"""Relays hand out four digits and more as they fill; twelve is a thousand relays' worth of rooms."""

CONNECTION_NUMBERS_AHEAD: Final = 64
"""Tags that an acceptor knows above the highest number it saw attached: 64 cached tags are 3 KB."""

ATTACHES_PER_NUMBER: Final = 4
"""Tries of one number side by side; a fifth is refused until one ends, so a flood costs four small objects."""

CONNECTION_NUMBER_MAX: Final = 2**32 - 1

RECORD_PLAINTEXT_BYTES: Final = 4 * 1024 * 1024 + 8 * 1024 - 16
"""The frame limit less the 16-byte tag. A reader's one reused buffer has this size."""

CHUNK_LOG2_MIN: Final = 16
"""64 KiB: smaller chunks cost more in headers and calls than they gain."""

CHUNK_LOG2_MAX: Final = 22
"""4 MiB: the frame limit. Memory of a transfer is the window times this at worst."""

PACK_RAW_BYTES: Final = 4 * 1024 * 1024
"""A pack after decompression: bounds the decompressor's output buffer."""

PACK_ENTRY_HEADER_BYTES: Final = 40

CONTROL_BODY_BYTES: Final = 1024 * 1024 + 4 * 1024
"""A part of an offer (1 MiB) is the largest control message; 4 KiB for the map around its entries."""

OFFER_PART_BYTES: Final = 1024 * 1024
"""One part's raw map; the decoded part takes about eight times that for a moment."""

OFFER_PARTS: Final = 64
"""64 MiB of names: 256 bytes for each of the most entries. Decoded, checked and shown, the longest cost 350 MB."""

OFFER_ENTRIES: Final = 262_144
"""Entries over all parts; decoded, about 300 bytes each, so 80 MB at the limit."""

PATH_BYTES: Final = 4096
"""UTF-8 bytes of an entry's path or a link's target: PATH_MAX of Linux, with its end."""

FILE_SIZE_MAX: Final = 2**63 - 1
"""What off_t holds."""

FILE_NUMBER_MAX: Final = 2**32 - 1
CHUNK_COUNT_MAX: Final = 2**48
MODE_MAX: Final = 0o777
"""Set-user-id, set-group-id and sticky bits never travel."""

TEXT_MODE: Final = 0o1000
TEXT_BYTES: Final = 64 * 1024
"""A file whose mode has this bit is a text to be shown, not written. It is alone in its offer, and has 64 KiB at most:
the text of a long letter, and what a terminal still shows at once."""

MTIME_NS_MIN: Final = -(2**63)
MTIME_NS_MAX: Final = 2**63 - 1

ACCEPT_RANGES: Final = 16_384
"""Ranges of selected files: every second file of 32,768, and 200 KB decoded."""

RECEIVED_RANGES: Final = 256
"""Acknowledged chunk ranges in one message; a window of hundreds of chunks never needs more."""

UNACKNOWLEDGED_MESSAGES: Final = 256
"""Numbered control messages kept for re-sending."""

MESSAGE_NUMBER_MAX: Final = 2**63 - 1
SAS_NONCE_BYTES: Final = 32

# ---- time, in seconds ----

REPLY_WAIT_S: Final = 10.0
"""For each frame expected between Ready and keys; a peer silent for longer is dropped and costs no guess."""

PING_AFTER_S: Final = 15.0
"""A sealed Ping after this long without sending, while a person is asked."""

SILENCE_S: Final = 45.0
"""Without a record for this long, or with a window unacknowledged for this long, a connection is lost."""

PATH_PING_S: Final = 1.0
"""Where another connection stands by, one that carries the transfer is pinged after this long without sending."""

PATH_SILENCE_DEDICATED_S: Final = 4.0
"""Where another stands by, a connection with a thread of its own is given up after this long without a byte."""

PATH_SILENCE_S: Final = 10.0
"""The same for one on the event loop, where a record on its way is not seen until it is whole."""

FLOW_PING_S: Final = 2.0
"""From the yes to the end, the last connection is pinged after this long without sending."""

FLOW_SILENCE_S: Final = 12.0
"""From the yes to the end, a side that would come back gives its last connection up after this long without a byte:
five pings that did not come. A new connection carries on at once, while TCP would wait as long again by itself."""

STANDBY_SILENCE_S: Final = 20.0
"""The connection that carried the handshake, while another stands, is given up after this long."""

STANDBY_PING_S: Final = 5.0
"""The same connection is pinged after this long without sending."""

DIRECT_WAIT_S: Final = 20.0
"""Where only direct paths may carry data, one has to stand this long after the yes, and again after each loss."""

DONE_WAIT_S: Final = 5.0
"""The receiver waits this long for the acknowledgement of Done."""

DATA_CONNECTIONS: Final = 4
"""Data connections of one path at most: as many as a relay hands out tokens for."""

# ---- local ----

HALF_OPEN_DIRECT: Final = 8
"""Direct connections that sent Join and no Reply yet: 8 x 10 KB of handshake state."""

WORD_SUGGESTIONS: Final = 3
"""Words named beside a mistyped one; more would be noise."""

WORKER_THREADS: Final = 32
"""Most threads of a process that do heavy work, whatever number of transfers it has; with fewer than 28 cores it is
four more than cores, since a thread that waits for a slow disk computes nothing. About 100 KB each while they live."""

DATA_THREADS: Final = 16
"""Most threads of a process that own a data socket. One or two serve a transfer at the speed of the machine, and
sixteen fill every core there is; the event loop serves further transfers, at about half the speed each."""
