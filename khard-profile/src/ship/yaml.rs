//! Owns how a value is written as YAML: the only place that does. Knows nothing of what it means.
//!
//! Block style for people, keys in the value's order. A string is left bare only if no reader can take it for anything else.

use std::fmt::Write;

use serde_json::Value;

use crate::escape;

/// A document: a comment at its top, a line for each of `head`, then the value, which must be an object.
///
/// `head` must be escaped for a terminal: a line break in it would end the comment.
pub(super) fn document(head: &[String], value: &Value) -> String {
    let mut text = String::new();
    for line in head {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    node(&mut text, value, 0);
    text
}

/// A value whose first line's indentation is there already, if it is not at a line's beginning.
fn node(text: &mut String, value: &Value, indent: usize) {
    let begins_line = text.is_empty() || text.ends_with('\n');
    let line = |text: &mut String, is_first: bool| {
        if !is_first || begins_line {
            let _ = write!(text, "{:indent$}", "");
        }
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (nth, (key, value)) in map.iter().enumerate() {
                line(text, nth == 0);
                let _ = write!(text, "{}:", string(key));
                text.push(if is_block(value) { '\n' } else { ' ' });
                node(text, value, indent + 2);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            for (nth, value) in values.iter().enumerate() {
                line(text, nth == 0);
                text.push_str("- ");
                node(text, value, indent + 2);
            }
        }
        scalar => {
            let scalar = match scalar {
                Value::String(content) => string(content),
                other => other.to_string(),
            };
            let _ = writeln!(text, "{scalar}");
        }
    }
}

fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
        || value.as_array().is_some_and(|all| !all.is_empty())
}

/// What YAML 1.1 reads as a boolean or null (<https://yaml.org/type/bool.html>).
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null"];

fn string(text: &str) -> String {
    let is_bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_bare { text.to_owned() } else { escape::yaml(text) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_lists_and_maps_keep_their_shape() {
        let value = json!({
            "containers": [{"name": "nginx", "ports": [80, 443]}, {"name": "no", "empty": {}}],
            "x/y": [["a", "b"], []],
            "on": null,
        });
        let expected = "# why\n#\ncontainers:\n  - name: nginx\n    ports:\n      - 80\n      - 443\n  - empty: {}\n    name: \"no\"\n\"on\": null\nx/y:\n  - - a\n    - b\n  - []\n";
        assert_eq!(document(&["why".to_owned(), String::new()], &value), expected);
    }

    #[test]
    fn only_what_is_surely_a_string_is_bare() {
        for bare in ["khard-web-1a2b.json", "SCMP_ACT_ALLOW", "x"] {
            assert_eq!(string(bare), bare);
        }
        for quoted in [
            "",
            "1e3",
            "No",
            "a: b",
            "a #b",
            "- a",
            "*a",
            "a\nb",
            ".inf",
            "0x1f",
            "~",
            "é",
            "a:",
            "{a",
            "2024-01-01",
        ] {
            assert_eq!(string(quoted), escape::yaml(quoted));
        }
    }
}
