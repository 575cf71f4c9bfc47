-- How many of an agent's files this backend has lost and the agent no longer has, as it last said.
ALTER TABLE agent ADD COLUMN lost_files BIGINT NOT NULL DEFAULT 0;
