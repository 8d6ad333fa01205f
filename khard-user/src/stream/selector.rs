//! A label selector, as `kubectl -l` takes it: parsed, and asked whether labels fit. Knows no pod.
//!
//! The grammar is that of apimachinery's `labels.Parse` (k8s.io/apimachinery/pkg/labels/selector.go), without `>` and `<`, which no
//! label of a pod is asked with.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Requirements, all of which labels must meet. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// A text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no label selector: give key=value, key!=value, key in (a,b), key notin (a,b), key or !key, separated by commas"
)]
pub struct BadSelector(String);

impl Selector {
    /// Whether these labels meet all requirements. As in Kubernetes, what is not there is also not any of some values.
    pub fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|Requirement { key, test }| {
            let value = labels.get(key);
            match test {
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let parsed = requirements(text).into_iter().map(requirement).collect::<Option<Vec<_>>>();
        parsed.map(Self).ok_or_else(|| BadSelector(text.to_owned()))
    }
}

impl TryFrom<String> for Selector {
    type Error = BadSelector;

    fn try_from(text: String) -> Result<Self, BadSelector> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, Requirement { key, test }) in self.0.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            match test {
                Test::Exists => write!(f, "{comma}{key}")?,
                Test::Missing => write!(f, "{comma}!{key}")?,
                Test::In(values) if values.len() == 1 => write!(f, "{comma}{key}={}", values[0])?,
                Test::NotIn(values) if values.len() == 1 => write!(f, "{comma}{key}!={}", values[0])?,
                Test::In(values) => write!(f, "{comma}{key} in ({})", values.join(","))?,
                Test::NotIn(values) => write!(f, "{comma}{key} notin ({})", values.join(","))?,
            }
        }
        Ok(())
    }
}

/// The parts between commas that are in no parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_border = |char: char| {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        char == ',' && depth == 0
    };
    text.split(is_border).map(str::trim).collect()
}

fn requirement(text: &str) -> Option<Requirement> {
    let of = |key: &str, test| {
        let key = key.trim();
        is_key(key).then(|| Requirement { key: key.to_owned(), test })
    };
    if let Some(key) = text.strip_prefix('!') {
        return of(key, Test::Missing);
    }
    if let Some(listed) = text.strip_suffix(')') {
        let (head, values) = listed.split_once('(')?;
        let values: Vec<_> = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        return match operator {
            _ if !values.iter().all(|value| is_value(value)) => None,
            "in" => of(key, Test::In(values)),
            "notin" => of(key, Test::NotIn(values)),
            _ => None,
        };
    }
    let one = |value: &str| is_value(value.trim()).then(|| vec![value.trim().to_owned()]);
    if let Some((key, value)) = text.split_once("!=") {
        return of(key, Test::NotIn(one(value)?));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return of(key, Test::In(one(value)?));
    }
    of(text, Test::Exists)
}

/// `[prefix/]name`, loosely: the runtime has the labels, and what is no label's name fits none.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|char| char.is_ascii_alphanumeric() || "-_./".contains(char))
}

/// A value may be empty.
fn is_value(value: &str) -> bool {
    value.chars().all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector.parse::<Selector>().unwrap().fits(&labels)
    }

    #[test]
    fn every_requirement_must_be_met() {
        let web = [("app", "web"), ("tier", "front")];
        assert!(
            fits("app=web", &web) && fits("app==web,tier", &web) && fits(" app in (api, web) , !gone", &web)
        );
        assert!(!fits("app=web,tier=back", &web) && !fits("app=we", &web) && !fits("!app", &web));
    }

    #[test]
    fn what_is_not_there_is_not_any_value() {
        assert!(fits("tier!=front", &[("app", "web")]) && fits("tier notin (a,b)", &[]));
        assert!(!fits("tier=", &[]) && fits("tier=", &[("tier", "")]));
        assert!(!fits("tier notin (a,b)", &[("tier", "b")]));
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in ["app=web", "app!=web", "a/b.c in (x,y),!z,w", "k notin (x,y)", "k="] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["", "=x", "a in x", "a in (x", "a,,b", "a=b c", "a b", "a in (x$)", "app=web;rm"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
