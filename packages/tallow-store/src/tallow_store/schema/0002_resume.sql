-- Schema 2: what makes an interrupted transfer go on.

-- Folders that hold partial files of a sender. The journal beside the data is the truth; this says where to look.
CREATE TABLE partial_place (
    sender BLOB NOT NULL CHECK (typeof(sender) = 'blob' AND length(sender) = 32),
    place TEXT NOT NULL CHECK (typeof(place) = 'text'),
    noted_s INTEGER NOT NULL CHECK (typeof(noted_s) = 'integer'),
    PRIMARY KEY (sender, place)
) WITHOUT ROWID;

-- What chunks of files that were sent hashed to, 32 bytes each from number first on, by the version of the file.
-- A cache: any row may go at any time. Device and inode are kept as signed numbers of 64 bits.
CREATE TABLE source_digests (
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    chunk_bytes INTEGER NOT NULL,
    first INTEGER NOT NULL CHECK (typeof(first) = 'integer' AND first >= 0),
    digests BLOB NOT NULL CHECK (typeof(digests) = 'blob' AND length(digests) > 0 AND length(digests) % 32 = 0),
    used_s INTEGER NOT NULL,
    PRIMARY KEY (device, inode, size_bytes, mtime_ns, ctime_ns, chunk_bytes, first)
) WITHOUT ROWID;

CREATE INDEX source_digests_by_use ON source_digests (used_s);
