//! Made of `schemas/*.proto`: do not edit. A test makes it anew and compares.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    let_underscore_drop,
    clippy::all,
    clippy::missing_errors_doc,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    reason = "made by a generator"
)]

#[rustfmt::skip]
pub mod collect;
#[rustfmt::skip]
pub mod publish;
