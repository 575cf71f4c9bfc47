-- Times are milliseconds since 1970. Hashes are SHA-256 of high-entropy random texts: no token or code stands here.

CREATE TABLE code (
    id          TEXT   NOT NULL PRIMARY KEY,
    hash        BLOB   NOT NULL UNIQUE,
    uses        BIGINT NOT NULL,
    used        BIGINT NOT NULL DEFAULT 0,
    customer_id TEXT,
    note        TEXT,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    revoked_at  BIGINT
);

CREATE TABLE agent (
    id                 TEXT   NOT NULL PRIMARY KEY,
    token_hash         BLOB   NOT NULL,
    -- The agent's own id of its enrollment: a repeated request gets the same agent.
    request_hash       BLOB   NOT NULL UNIQUE,
    code               TEXT   NOT NULL REFERENCES code (id),
    customer_id        TEXT,
    hostname           TEXT   NOT NULL,
    os                 TEXT   NOT NULL,
    arch               TEXT   NOT NULL,
    version            TEXT   NOT NULL,
    channel            TEXT   NOT NULL,
    enrolled_at        BIGINT NOT NULL,
    seen_at            BIGINT,
    service_started_at BIGINT,
    spool_files        BIGINT NOT NULL DEFAULT 0,
    spool_bytes        BIGINT NOT NULL DEFAULT 0,
    revoked_at         BIGINT
);

CREATE TABLE command (
    seq                 INTEGER NOT NULL PRIMARY KEY,
    id                  TEXT    NOT NULL UNIQUE,
    agent               TEXT    NOT NULL REFERENCES agent (id),
    action              TEXT    NOT NULL,
    order_json          TEXT    NOT NULL,
    state               TEXT    NOT NULL CHECK (state IN
        ('queued', 'delivered', 'running', 'done', 'failed', 'cancelled', 'interrupted', 'expired')),
    created_at          BIGINT  NOT NULL,
    expires_at          BIGINT,
    time_limit_ms       BIGINT,
    accepted_at         BIGINT,
    started_at          BIGINT,
    ended_at            BIGINT,
    cancel_requested_at BIGINT,
    cancel_reason       TEXT,
    -- When the agent's own outcome came in, or when it is known that none ever will.
    reported_at         BIGINT,
    report_json         TEXT,
    error_json          TEXT
);
CREATE INDEX command_of_agent ON command (agent, seq);
CREATE INDEX command_unreported ON command (agent, seq) WHERE reported_at IS NULL;
CREATE INDEX command_queued ON command (expires_at) WHERE state = 'queued';

CREATE TABLE progress_integration (
    command     TEXT NOT NULL REFERENCES command (id) ON DELETE CASCADE,
    integration TEXT NOT NULL,
    node        TEXT NOT NULL,
    PRIMARY KEY (command, integration)
);

CREATE TABLE progress_session (
    command TEXT   NOT NULL REFERENCES command (id) ON DELETE CASCADE,
    session BIGINT NOT NULL,
    parent  BIGINT,
    is_open BIGINT NOT NULL,
    node    TEXT   NOT NULL,
    PRIMARY KEY (command, session)
);
CREATE INDEX progress_siblings ON progress_session (command, parent, is_open, session);

CREATE TABLE log_batch (
    command TEXT   NOT NULL REFERENCES command (id) ON DELETE CASCADE,
    batch   BIGINT NOT NULL,
    PRIMARY KEY (command, batch)
);

CREATE TABLE log_line (
    command TEXT   NOT NULL REFERENCES command (id) ON DELETE CASCADE,
    seq     BIGINT NOT NULL,
    line    TEXT   NOT NULL,
    PRIMARY KEY (command, seq)
);

-- No reference to a command: a run by hand has files, too.
CREATE TABLE file (
    agent       TEXT   NOT NULL REFERENCES agent (id),
    export      TEXT   NOT NULL,
    model       TEXT   NOT NULL,
    number      BIGINT NOT NULL,
    integration TEXT   NOT NULL,
    objects     BIGINT NOT NULL,
    raw_bytes   BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    sha256      TEXT   NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (agent, export, model, number)
);
CREATE INDEX file_of_export ON file (export);

-- One-time login links and the sessions of browsers.
CREATE TABLE web_pass (
    hash       BLOB   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL CHECK (kind IN ('link', 'session')),
    expires_at BIGINT NOT NULL
);
