-- What each agent last said of collecting: whether it runs, by whose section, and what the backend ordered, without secrets.
CREATE TABLE collecting (
    agent     TEXT   NOT NULL PRIMARY KEY REFERENCES agent (id),
    told_json TEXT   NOT NULL,
    told_at   BIGINT NOT NULL
);
