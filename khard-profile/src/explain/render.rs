//! Owns how an explanation is shown: text for people, JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Explanation, InPhase};
use crate::check::witness;

impl Explanation {
    /// Text for a terminal.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.about);
        for rule in &self.rules {
            let _ = writeln!(text, "  {}: {}", rule.place, rule.text);
        }
        for observation in &self.observations {
            let _ = writeln!(text, "\n{}\n  {}", observation.what, observation.verdict);
            if observation.seen.is_empty() {
                text.push_str("  not in this recording\n");
            }
            for InPhase { phase, frequency, witness } in &observation.seen {
                let witness = witness::in_words(witness.as_ref());
                let _ = writeln!(text, "  {phase}: {frequency}, {witness}");
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "\nnote: {note}");
        }
        text
    }

    /// The same for programs.
    pub fn to_value(&self) -> Value {
        let rules = self.rules.iter().map(|rule| json!({ "place": rule.place, "text": rule.text }));
        let in_phase = |seen: &InPhase| {
            json!({
                "phase": seen.phase,
                "in_whole_runs": seen.frequency.in_whole,
                "of_whole_runs": seen.frequency.of_whole,
                "in_other_runs": seen.frequency.in_others,
                "witness": seen.witness,
            })
        };
        let observations = self.observations.iter().map(|observation| {
            json!({
                "what": observation.what,
                "verdict": observation.verdict,
                "seen": observation.seen.iter().map(in_phase).collect::<Vec<_>>(),
            })
        });
        json!({
            "about": self.about,
            "rules": rules.collect::<Vec<_>>(),
            "observations": observations.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}
