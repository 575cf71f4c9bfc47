//! How files are compressed.

use serde::{Deserialize, Serialize};

/// How a file is compressed; its name's last part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// `.json.gz`: a sequence of gzip members.
    #[default]
    Gzip,
    /// `.json.zst`: a sequence of Zstandard frames, each with a checksum of its content.
    Zstd,
}

impl Compression {
    /// All there are.
    pub(crate) const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// Whether it is the one that is meant where nothing is said.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How new files are compressed, and how hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// [`Compression::Gzip`]
    Gzip {
        /// 0 (stored as it is), 1 (fast) to 9 (small).
        level: u32,
    },
    /// [`Compression::Zstd`]
    Zstd {
        /// 1 (fast) to 19 (small).
        level: u32,
    },
}

impl Codec {
    /// What its files are.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self {
            Self::Gzip { .. } => Compression::Gzip,
            Self::Zstd { .. } => Compression::Zstd,
        }
    }
}
