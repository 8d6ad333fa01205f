//! What is in force on a node: profiles are put there, changed and taken away again, and whoever asks is told.
//!
//! Owns what khard may touch: what it wrote itself, by its ledger, and nothing that confines a running process, unless it is told
//! to. Every change is whole: when one step fails, those before it are undone. It must not know how profiles are made.

mod apparmor;
mod apply;
mod boot;
mod changes;
mod containers;
mod found;
mod ledger;
mod parser;
mod places;
mod processes;
mod remove;
mod render;
mod status;
mod switch;
#[cfg(test)]
mod tests;

pub use apply::{Applied, ApplyOptions, Kind, apply};
pub use places::Places;
pub use remove::{Removed, remove};
pub use render::render;
pub use status::Status;
pub use switch::{Superseded, Switched, switch};

use std::{io, path::PathBuf};

use khard_profile::{apparmor_text::ProfileTextError, escape};

use crate::{
    input::InputError,
    output::files::{OutDir, WriteError},
};

/// Something cannot be done on this node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An ordinary user; to do what.
    #[error("what is in force on a node is root's to {0}: run khard as root, for example with sudo")]
    NotRoot(&'static str),
    /// A mistyped root.
    #[error("there is no folder {}: --root names the root of an image's file system, as it is mounted or unpacked here", .0.display())]
    NoRoot(PathBuf),
    /// No AppArmor.
    #[error("AppArmor profiles cannot be loaded here: {0}")]
    NoAppArmor(String),
    /// No parser.
    #[error("there is no apparmor_parser, which loads AppArmor profiles: install the package apparmor")]
    NoParser,
    /// Another khard.
    #[error("another khard is changing what is in force here ({} is locked): wait until it is done", .0.display())]
    Busy(PathBuf),
    /// A file of the user's.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A text that is no profile.
    #[error("{} cannot be used", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProfileTextError,
    },
    /// A file that is no seccomp profile.
    #[error("{} is no seccomp profile", path.display())]
    Seccomp {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: khard_profile::check::ProfileError,
    },
    /// A name with which too much could be done.
    #[error("{} names its profile \"{name}\", which {why}: give it another name", path.display())]
    BadName {
        /// The file.
        path: PathBuf,
        /// Escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two texts for one place.
    #[error("{} and {} are different profiles for the same name: apply one of them", .0.display(), .1.display())]
    Twice(PathBuf, PathBuf),
    /// The parser.
    #[error("{} {}: {says}", parser.display(), what)]
    Parser {
        /// The program.
        parser: PathBuf,
        /// What it did, with the name of the profile or its file.
        what: String,
        /// Its last words.
        says: String,
    },
    /// Not khard's.
    #[error("{what} {why}: khard leaves it alone; --force {force}")]
    NotOurs {
        /// The thing.
        what: String,
        /// Why it is not khard's.
        why: &'static str,
        /// What `--force` does.
        force: &'static str,
    },
    /// In use.
    #[error(
        "{what} confines {n} running {}: stop {} first, or use --force{hint}",
        plural(*.n, "process", "processes"),
        plural(*.n, "it", "them")
    )]
    InUse {
        /// The profile.
        what: String,
        /// How many processes.
        n: usize,
        /// What else could be done.
        hint: String,
    },
    /// A file that containers start with.
    #[error("{} is what the running container {container} was started with, and needs to start again: remove that first, or use --force", path.display())]
    Needed {
        /// The seccomp profile.
        path: PathBuf,
        /// Escaped.
        container: String,
    },
    /// Not in the ledger.
    #[error("khard has not put {what} into force here: `{status}` lists what it has")]
    Unknown {
        /// As it was named, escaped.
        what: String,
        /// The command that tells.
        status: String,
    },
    /// It would not be what was asked for after the next boot.
    #[error("{} makes the next boot {does}: remove it first", path.display())]
    Overridden {
        /// A link of AppArmor's.
        path: PathBuf,
        /// What it does to the profile.
        does: &'static str,
    },
    /// The kernel has something else than what was loaded.
    #[error("the kernel does not have the profile {name} in {expected} mode after loading it, but {found}")]
    NotAsLoaded {
        /// Escaped.
        name: String,
        /// The mode.
        expected: &'static str,
        /// In words.
        found: String,
    },
    /// The ledger.
    #[error("{} cannot be read as khard's list of what it wrote: move it away, and khard will regard what is there as not its own", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Reading.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// In the middle of a change.
    #[error("{}", undone(left))]
    Undone {
        /// What could not be undone, in words.
        left: Vec<String>,
        /// What failed.
        #[source]
        source: Box<NodeError>,
    },
}

impl NodeError {
    fn unknown(places: &Places, what: &str) -> Self {
        let root = match places.kernel {
            Some(_) => String::new(),
            None => format!(" --root {}", escape::shell(apparmor::bytes_of(&places.root))),
        };
        Self::Unknown { what: shown(what), status: format!("khard status{root}") }
    }

    fn not_our_file(file: &std::path::Path, was_ours: bool, force: &'static str) -> Self {
        let what = escape::terminal(apparmor::bytes_of(file));
        let why = if was_ours { "was changed since khard wrote it" } else { "was not written by khard" };
        Self::NotOurs { what, why, force }
    }
}

fn undone(left: &[String]) -> String {
    if left.is_empty() {
        "nothing was changed; what was done before this was undone".to_owned()
    } else {
        format!("not all that was done before this could be undone ({})", left.join("; "))
    }
}

fn plural(n: usize, one: &'static str, many: &'static str) -> &'static str {
    if n == 1 { one } else { many }
}

/// A profile's name for messages.
fn shown(name: &str) -> String {
    escape::terminal(name.as_bytes())
}

/// Whether it may be tried at all; `to` says what.
///
/// # Errors
/// For ordinary users.
pub fn need_root(to: &'static str) -> Result<(), NodeError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(NodeError::NotRoot(to)) }
}

/// Opens a folder of the system by the path of a file in it, and tells the file's name.
fn folder_of(file: &std::path::Path) -> Result<(OutDir, String), NodeError> {
    let dir = file.parent().unwrap_or(std::path::Path::new("/"));
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((OutDir::open_system(dir)?, name))
}

/// A file's bytes; `None` if there is none, and a link is not followed.
fn read_if_there(path: &std::path::Path) -> Result<Option<Vec<u8>>, NodeError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| NodeError::Read { path: path.to_owned(), source };
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    match file {
        Ok(mut file) => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut file, &mut bytes).map_err(failed)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
