//! What the running kernel tells of itself, also where the file systems that say it are not mounted. Judges nothing.

pub(crate) mod fs;
mod modules;
mod preemption;

pub use modules::security_modules;
pub use preemption::preemption;
