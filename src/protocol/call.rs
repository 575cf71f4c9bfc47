//! A method of the protocol as a type: its name, what goes in, what comes back.

use serde::{Serialize, de::DeserializeOwned};

/// A request that has an answer.
pub trait Call {
    /// The method's name on the wire.
    const NAME: &'static str;
    /// What the caller sends.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// What the other end answers.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// A notification: nobody answers it.
pub trait Notice {
    /// The method's name on the wire.
    const NAME: &'static str;
    /// What the sender says.
    type Params: Serialize + DeserializeOwned + Send + 'static;
}

/// Declares methods: `calls! { /// doc  Name = "wire.name": Params => Reply; }`.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $wire:literal: $params:ty => $reply:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl $crate::Call for $name {
            const NAME: &'static str = $wire;
            type Params = $params;
            type Reply = $reply;
        }
    )*};
}

/// Declares notifications: `notices! { /// doc  Name = "wire.name": Params; }`.
macro_rules! notices {
    ($($(#[$doc:meta])* $name:ident = $wire:literal: $params:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl $crate::Notice for $name {
            const NAME: &'static str = $wire;
            type Params = $params;
        }
    )*};
}

pub(crate) use {calls, notices};
