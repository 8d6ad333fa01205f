//! Owns how a check's answer is shown: text for people, JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{CheckedCall, RefusedBefore, Report, Verdict, errno};
use crate::check::witness;
use crate::escape;

impl Report {
    /// Text for a terminal: what is refused first, each with its witness.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        group(&mut text, "system calls", &self.program);
        if !self.runtime.is_empty() {
            text.push('\n');
            group(&mut text, "calls of the runtime itself under a filter", &self.runtime);
        }
        if !self.refused_before.is_empty() {
            let n = self.refused_before.len();
            let _ = writeln!(text, "\n{n} system calls were refused by the filter in force while recording");
        }
        for before in &self.refused_before {
            let _ = writeln!(text, "before   {}", before.refusal().unwrap_or_else(|| before.in_words()));
            let _ = writeln!(text, "         {}", witness::in_words(before.call.witness.as_ref()));
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
        let calls = |calls: &[CheckedCall]| calls.iter().map(call_value).collect::<Vec<_>>();
        json!({
            "passes": self.passes(),
            "program": calls(&self.program),
            "runtime": calls(&self.runtime),
            "refused_before": self.refused_before.iter().map(before_value).collect::<Vec<_>>(),
            "caveats": self.caveats,
        })
    }
}

fn group(text: &mut String, title: &str, calls: &[CheckedCall]) {
    let of = |wanted: fn(&Verdict) -> bool| calls.iter().filter(move |call| wanted(&call.verdict));
    let refused = || of(|verdict| matches!(verdict, Verdict::Refused { .. }));
    let depends = || of(|verdict| matches!(verdict, Verdict::Depends(_)));
    let (n_refused, n_depend) = (refused().count(), depends().count());
    let n_allowed = calls.len() - n_refused - n_depend;
    let _ = writeln!(
        text,
        "{} {title}: {n_allowed} allowed, {n_refused} refused, {n_depend} depend on more than was recorded",
        calls.len()
    );
    for call in refused() {
        let _ = writeln!(text, "refused  {}", call.refusal().unwrap_or_default());
        let _ = writeln!(text, "         {}", witness::in_words(call.witness.as_ref()));
    }
    for call in depends() {
        let _ = writeln!(text, "depends  {}", title_of(call));
        if let Verdict::Depends(parts) = &call.verdict {
            for part in parts {
                let _ = writeln!(text, "         {}", escape::terminal(part.as_bytes()));
            }
        }
        let _ = writeln!(text, "         {}", witness::in_words(call.witness.as_ref()));
    }
}

impl CheckedCall {
    /// What is refused, in which phases, how and by what, on one line for a terminal; `None` if it is not for certain.
    pub(in crate::check) fn refusal(&self) -> Option<String> {
        let Verdict::Refused { outcome, by } = &self.verdict else { return None };
        Some(format!("{}: {outcome} (by {})", title_of(self), escape::terminal(by.as_bytes())))
    }
}

impl RefusedBefore {
    /// What was refused, with what, and that this profile does so too; `None` if that is not for certain.
    pub(in crate::check) fn refusal(&self) -> Option<String> {
        let Verdict::Refused { outcome, by } = &self.call.verdict else { return None };
        let answer = outcome.to_string();
        let answer = if answer == self.errnos_in_words() {
            "as this profile answers".to_owned()
        } else {
            format!("and this profile answers {answer}")
        };
        Some(format!("{}, {answer} (by {})", self.was(), escape::terminal(by.as_bytes())))
    }

    /// What was refused, with what, and what this profile does instead.
    pub(in crate::check) fn in_words(&self) -> String {
        let verdict = match &self.call.verdict {
            Verdict::Allowed => "allows it",
            Verdict::Refused { .. } => "refuses it too",
            Verdict::Depends(_) => "decides by more than was recorded",
        };
        format!("{}; this profile {verdict}", self.was())
    }

    fn was(&self) -> String {
        format!("{}: got {}", title_of(&self.call), self.errnos_in_words())
    }

    fn errnos_in_words(&self) -> String {
        let errnos: Vec<String> =
            self.errnos.iter().map(|errno| errno::in_words(u32::from(*errno))).collect();
        errnos.join(" and ")
    }
}

fn before_value(before: &RefusedBefore) -> Value {
    let mut value = call_value(&before.call);
    value["errnos"] = json!(before.errnos);
    value
}

fn title_of(call: &CheckedCall) -> String {
    let name = call.name.unwrap_or("without a name");
    format!("{name} ({} {}) of {}", call.key.abi, call.key.nr, call.phases)
}

fn call_value(call: &CheckedCall) -> Value {
    let mut value = json!({
        "abi": call.key.abi,
        "nr": call.key.nr,
        "name": call.name,
        "phases": call.phases.iter().collect::<Vec<_>>(),
        "witness": call.witness,
    });
    match &call.verdict {
        Verdict::Allowed => value["verdict"] = json!("allowed"),
        Verdict::Refused { outcome, by } => {
            value["verdict"] = json!("refused");
            value["action"] = json!(outcome.action);
            value["errno"] = json!(outcome.errno);
            value["by"] = json!(by);
        }
        Verdict::Depends(on) => {
            value["verdict"] = json!("depends");
            value["on"] = json!(on);
        }
    }
    value
}
