//! The log file that a CRI runtime writes for a container. Owns the format; asks nobody.
//!
//! Each line is `TIME STREAM TAG TEXT`; the tag `P` says that the line goes on in the next one of that stream:
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>.

/// The text alone, of both streams in the order they were written.
pub(super) fn messages(log: &str) -> String {
    let mut all = String::new();
    for line in log.lines() {
        let mut fields = line.splitn(4, ' ').skip(2);
        let (tag, text) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        all.push_str(text);
        if tag != "P" {
            all.push('\n');
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_line_are_joined_and_empty_lines_kept() {
        let log = "2026-11-24T08:00:00Z stdout P one \n2026-11-24T08:00:00Z stdout F line\n2026-11-24T08:00:00Z stderr F \n";
        assert_eq!(messages(log), "one line\n\n");
    }
}
