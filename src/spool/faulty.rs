//! A file system in memory that fails and forgets on demand.
