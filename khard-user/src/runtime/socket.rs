//! What can be wrong with a runtime's socket before a word is spoken on it. Owns telling that apart; it must not know what is spoken.
use super::error::Unusable;
use std::{io, os::unix::fs::FileTypeExt, path::Path};

/// That there is a socket.
pub(super) fn check(path: &Path) -> Result<(), Unusable> {
    let file = std::fs::metadata(path).map_err(refusal)?;
    if file.file_type().is_socket() { Ok(()) } else { Err(Unusable::NotASocket) }
}

/// Why the system refused a file or a connection.
pub(super) fn refusal(error: io::Error) -> Unusable {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unusable::Missing,
        io::ErrorKind::PermissionDenied => Unusable::Permission,
        io::ErrorKind::ConnectionRefused => Unusable::Refused,
        _ => Unusable::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_and_other_refusals_are_told_apart() {
        let of = |kind: io::ErrorKind| refusal(io::Error::from(kind));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), Unusable::Permission));
        assert!(matches!(of(io::ErrorKind::OutOfMemory), Unusable::Io(_)));
    }
}
