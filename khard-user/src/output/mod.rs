//! Files that khard writes. Text for people is escaped by `khard_profile::escape`.

pub mod compile;
pub mod files;
pub mod place;
