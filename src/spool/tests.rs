//! What the spool does.
