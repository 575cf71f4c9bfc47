-- How far a command's upgrade is, as the agent last said.
ALTER TABLE command ADD COLUMN upgrade TEXT;
-- Which build an agent runs; nothing for one that cannot be upgraded.
ALTER TABLE agent ADD COLUMN build TEXT;
