-- What each agent's installed integrations last said of themselves: `about` for one that answered, `error` for one that
-- did not.
CREATE TABLE installed_integration (
    agent      TEXT   NOT NULL REFERENCES agent (id),
    name       TEXT   NOT NULL,
    about_json TEXT,
    error_json TEXT,
    told_at    BIGINT NOT NULL,
    PRIMARY KEY (agent, name)
);

-- The integrations that are configured at an agent. `secrets` is encrypted for the agent's host; `config_json` is the
-- configuration without them.
CREATE TABLE configured_integration (
    agent        TEXT   NOT NULL REFERENCES agent (id),
    id           TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    config_json  TEXT   NOT NULL,
    secrets      TEXT,
    version      TEXT   NOT NULL,
    source_json  TEXT,
    validated_at BIGINT NOT NULL,
    PRIMARY KEY (agent, id)
);

-- How access tokens are made for an integration of an agent. `refresh_token` and `client_secret` are secrets of this
-- backend: they go to the token URL and nowhere else. `revision` changes with every registration, so that an answer
-- to an older one is not stored; `generation` counts the access tokens and never goes back.
CREATE TABLE oauth_registration (
    agent         TEXT   NOT NULL REFERENCES agent (id),
    integration   TEXT   NOT NULL,
    revision      BIGINT NOT NULL,
    token_url     TEXT   NOT NULL,
    client_id     TEXT   NOT NULL,
    client_secret TEXT,
    refresh_token TEXT   NOT NULL,
    scopes_json   TEXT   NOT NULL,
    generation    BIGINT NOT NULL DEFAULT 0,
    registered_at BIGINT NOT NULL,
    refreshed_at  BIGINT,
    -- What the token server said when it refused the refresh token: a person has to authorize again.
    refused       TEXT,
    PRIMARY KEY (agent, integration)
);

CREATE TABLE crash (
    seq         INTEGER NOT NULL PRIMARY KEY,
    agent       TEXT    NOT NULL REFERENCES agent (id),
    id          TEXT    NOT NULL,
    crash_json  TEXT    NOT NULL,
    received_at BIGINT  NOT NULL,
    UNIQUE (agent, id)
);
