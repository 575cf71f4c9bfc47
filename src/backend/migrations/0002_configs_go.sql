-- Whether the order still holds the configurations of integrations. They may hold secrets, and nobody needs them once
-- the command has ended.
ALTER TABLE command ADD COLUMN has_configs BIGINT NOT NULL DEFAULT 1;
CREATE INDEX command_with_configs ON command (state) WHERE has_configs = 1;
