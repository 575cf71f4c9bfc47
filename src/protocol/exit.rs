//! The exit statuses of all programs of Outrider: one table, used by the children that exit and the parents that read it.

/// How a program of Outrider ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for was done.
    Ok = 0,
    /// Something failed; the error on stderr says what, and what to do.
    Failure = 1,
    /// The flags, the configuration or the input given are not valid; nothing was started.
    Usage = 2,
    /// The parent is gone (end of file on stdin) before the work was done.
    Orphaned = 3,
    /// The root is in use by another process.
    RootInUse = 4,
    /// The work was cancelled, by the backend or by Ctrl-C; what was done until then is kept.
    Cancelled = 5,
    /// The integration does not offer what was asked of it.
    NotSupported = 6,
}

/// The status with which a Rust program ends after a panic.
pub const PANIC: i32 = 101;

impl Exit {
    /// Every status, in order, for documentation.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Orphaned,
        Self::RootInUse,
        Self::Cancelled,
        Self::NotSupported,
    ];

    /// The number that the system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of a number, if it is one of ours.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| i32::from(exit.code()) == code)
    }
}
