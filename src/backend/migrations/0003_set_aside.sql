-- A command may also end as `set_aside`. SQLite cannot change a check; a column can be replaced, which leaves the rows
-- of the table, and those of others that refer to them, where they are.
DROP INDEX command_queued;
DROP INDEX command_with_configs;
ALTER TABLE command ADD COLUMN next_state TEXT NOT NULL DEFAULT 'queued' CHECK (next_state IN
    ('queued', 'delivered', 'running', 'done', 'failed', 'cancelled', 'interrupted', 'expired', 'set_aside'));
UPDATE command SET next_state = state;
ALTER TABLE command DROP COLUMN state;
ALTER TABLE command RENAME COLUMN next_state TO state;
CREATE INDEX command_queued ON command (expires_at) WHERE state = 'queued';
CREATE INDEX command_with_configs ON command (state) WHERE has_configs = 1;

ALTER TABLE file ADD COLUMN compression TEXT NOT NULL DEFAULT 'gzip' CHECK (compression IN ('gzip', 'zstd'));
