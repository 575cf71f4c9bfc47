-- How many of an agent's files this backend refuses for what is in them, as the agent last said.
ALTER TABLE agent ADD COLUMN refused_files BIGINT NOT NULL DEFAULT 0;
