//! Owns how a check's answer is shown: text for people, JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{CheckedAccess, Refusal, Report, Verdict, words};
use crate::check::witness;
use crate::escape;

impl Report {
    /// Text for a terminal: what is refused first, each with its witness.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.group(&mut text, "accesses", &self.accesses);
        let refused = |access: &&CheckedAccess| {
            !matches!(access.verdict, Verdict::Allowed(_) | Verdict::NotMediated(_))
        };
        let aside: Vec<_> = self.aside.iter().filter(refused).cloned().collect();
        if !aside.is_empty() {
            let title = "attempts that were refused anyway, or only tests, which this profile does not allow (no failure)";
            let _ = writeln!(text, "\n{} {title}", aside.len());
            self.list(&mut text, &aside);
        }
        for caveat in &self.caveats {
            let _ = write!(text, "\nnote: {caveat}");
        }
        if !self.caveats.is_empty() {
            text.push('\n');
        }
        text
    }

    /// The same for programs. `passes` is what the exit code says.
    pub fn to_value(&self) -> Value {
        let list =
            |accesses: &[CheckedAccess]| accesses.iter().map(|access| self.value(access)).collect::<Vec<_>>();
        json!({
            "passes": self.passes(),
            "profile": self.profile,
            "accesses": list(&self.accesses),
            "aside": list(&self.aside),
            "caveats": self.caveats,
        })
    }

    fn group(&self, text: &mut String, title: &str, accesses: &[CheckedAccess]) {
        let count =
            |wanted: fn(&Verdict) -> bool| accesses.iter().filter(|access| wanted(&access.verdict)).count();
        let n_refused = count(|verdict| matches!(verdict, Verdict::Refused(_)));
        let n_unjudged = count(|verdict| matches!(verdict, Verdict::CannotJudge(_)));
        let _ = writeln!(
            text,
            "{} {title}: {} allowed, {n_refused} refused, {n_unjudged} cannot be judged",
            accesses.len(),
            accesses.len() - n_refused - n_unjudged
        );
        self.list(text, accesses);
    }

    fn list(&self, text: &mut String, accesses: &[CheckedAccess]) {
        for access in accesses {
            if let Some(refusal) = self.refusal(access) {
                let _ = writeln!(text, "refused  {refusal}");
                let _ = writeln!(text, "         {}", witness::in_words(access.witness.as_ref()));
            }
        }
        for access in accesses {
            if let Verdict::CannotJudge(why) = &access.verdict {
                let _ = writeln!(text, "unclear  {} of {}: {why}", words::access(&access.key), access.phases);
                let _ = writeln!(text, "         {}", witness::in_words(access.witness.as_ref()));
            }
        }
    }

    /// What is refused, in which phases and why, on one line for a terminal; `None` if it is not for certain.
    pub(in crate::check) fn refusal(&self, access: &CheckedAccess) -> Option<String> {
        let Verdict::Refused(refusal) = &access.verdict else { return None };
        Some(format!("{} of {}: {}", words::access(&access.key), access.phases, self.why(refusal)))
    }

    fn why(&self, refusal: &Refusal) -> String {
        match refusal {
            Refusal::NoRule { missing } => format!("no rule grants {missing}"),
            Refusal::DenyRule(place) => self.rules.get(*place).map_or_else(String::new, |(line, rule)| {
                format!("denied in line {line}: {}", escape::terminal(rule.as_slice()))
            }),
            Refusal::Flag(flag) => format!("the profile lacks the flag {flag}"),
            Refusal::Subset => {
                "the new name would grant more than the file's own: a rule link /new -> /file asks for no more".to_owned()
            }
        }
    }

    fn value(&self, access: &CheckedAccess) -> Value {
        let mut value = json!({
            "access": access.key,
            "phases": access.phases.iter().collect::<Vec<_>>(),
            "witness": access.witness,
        });
        let lines = |places: &[usize]| {
            places
                .iter()
                .filter_map(|place| self.rules.get(*place))
                .map(|(line, _)| *line)
                .collect::<Vec<_>>()
        };
        match &access.verdict {
            Verdict::Allowed(by) => {
                value["verdict"] = json!("allowed");
                value["lines"] = json!(lines(by));
            }
            Verdict::NotMediated(why) => {
                value["verdict"] = json!("not_mediated");
                value["why"] = json!(why);
            }
            Verdict::Refused(refusal) => {
                value["verdict"] = json!("refused");
                value["why"] = json!(self.why(refusal));
                if let Refusal::DenyRule(place) = refusal {
                    value["lines"] = json!(lines(&[*place]));
                }
            }
            Verdict::CannotJudge(why) => {
                value["verdict"] = json!("cannot_judge");
                value["why"] = json!(why);
            }
        }
        value
    }
}
