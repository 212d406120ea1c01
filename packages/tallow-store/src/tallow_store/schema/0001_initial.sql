-- Schema 1. No STRICT tables: SQLite 3.34 is still in use. The checks stand in for it.

-- 'TLW1', so that a file of another program is never taken for ours.
PRAGMA application_id = 1414289201;

-- How a relay's key was accepted: by its own SHA-256 (spki) or by the system's authorities. Never weakened.
CREATE TABLE known_relay (
    host TEXT NOT NULL CHECK (typeof(host) = 'text'),
    port INTEGER NOT NULL CHECK (typeof(port) = 'integer' AND port BETWEEN 1 AND 65535),
    mode TEXT NOT NULL CHECK (mode IN ('spki', 'authority')),
    spki_sha256 BLOB CHECK (spki_sha256 IS NULL OR (typeof(spki_sha256) = 'blob' AND length(spki_sha256) = 32)),
    first_used_s INTEGER NOT NULL CHECK (typeof(first_used_s) = 'integer'),
    PRIMARY KEY (host, port),
    CHECK ((mode = 'spki') = (spki_sha256 IS NOT NULL))
) WITHOUT ROWID;

-- Secrets, each sealed under the store's key and its own name (sealed.py): the identity is one.
CREATE TABLE sealed_value (
    name TEXT NOT NULL PRIMARY KEY CHECK (typeof(name) = 'text'),
    value BLOB NOT NULL CHECK (typeof(value) = 'blob')
) WITHOUT ROWID;
