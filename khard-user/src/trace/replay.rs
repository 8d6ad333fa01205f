//! `khard replay`: an old recording as the stream that it was.

use std::time::{Duration, Instant};

use khard_profile::recording::Recording;

use super::{
    TraceError,
    client::{Client, Keep, Ui},
};
use crate::{
    agent::{self, Port, Signals},
    profiles::ProfileChoices,
    subjects::replay,
    tui::Setup,
};

/// Shows a recording in the dashboard, so many times as fast as it was, or at once. `name`: what is said to be shown.
///
/// # Errors
/// Without a terminal.
pub async fn replay(
    recording: &Recording,
    name: String,
    speed: Option<f64>,
    choices: ProfileChoices,
) -> Result<(), TraceError> {
    let signals = Signals::install().map_err(|source| TraceError::Io { what: "handle signals", source })?;
    let ui = Ui::dashboard(Setup { source: name, out_dir: String::new(), is_replay: true })?;
    let told = replay::messages(recording);
    let (Port { mut commands, messages }, link) = agent::stream();
    tokio::spawn(async move {
        let began = Instant::now();
        for (time_ns, message) in told {
            let at = speed.map(|speed| Duration::from_nanos(time_ns).div_f64(speed));
            if let Some(left) = at.and_then(|at| at.checked_sub(began.elapsed())) {
                tokio::time::sleep(left).await;
            }
            if messages.send(Ok(message)).await.is_err() {
                return;
            }
        }
        // Wishes are for an agent: a recording cannot be changed any more.
        while commands.recv().await.is_some() {}
    });
    Client::of_viewer(Keep::Nothing(choices), ui).run(link, signals).await.map(drop)
}
