//! One line for an error and what caused it. Owns the joining, no words of its own.

/// An error with all its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some errors repeat their cause in their own words.
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot load{}", .told.then_some(": not permitted").unwrap_or_default())]
        struct Load {
            told: bool,
            source: Cause,
        }
        #[derive(Debug, thiserror::Error)]
        #[error("not permitted")]
        struct Cause;
        for told in [true, false] {
            assert_eq!(with_causes(&Load { told, source: Cause }), "cannot load: not permitted");
        }
    }
}
