//! An agent at the other end of standard input and output, as `khard trace --via` starts it. Owns the pumps between frames and
//! the agent's port.

use tokio::io::{stdin, stdout};

use super::{Agent, AgentError, Signals, stream};
use crate::{
    causes::with_causes,
    privilege,
    stream::{Command, FrameReader, FrameWriter, Message, Outcome},
};

/// Reads what to record, records it, and tells. The end of the input ends the recording.
///
/// # Errors
/// Also told to the client, as far as there is one.
pub async fn serve_stdio(signals: Signals) -> Result<(), AgentError> {
    let mut writer = FrameWriter::new(stdout());
    // First of all: a client that has another version must learn of ours.
    writer.greet().await?;
    writer.flush().await?;
    let mut reader = FrameReader::new(stdin());
    let agent = match reader.next().await {
        Ok(Some(Command::Record(request))) => Agent::begin(&request, None).await,
        Ok(_) => Err(AgentError::NoRequest),
        Err(error) => Err(error.into()),
    };
    let agent = agent.and_then(|agent| {
        privilege::drop_privileges()?;
        Ok(agent)
    });
    let agent = match agent {
        Ok(agent) => agent,
        Err(error) => {
            let outcome = Outcome::Failed(with_causes(&error));
            writer.write(&Message::Over { outcome }).await?;
            writer.flush().await?;
            return Err(error);
        }
    };
    let (port, mut link) = stream();
    let commands = link.commands;
    // Ends with its sender when the client is gone: then the agent ends too.
    let incoming = tokio::spawn(async move {
        while let Ok(Some(command)) = reader.next::<Command>().await {
            if commands.send(command).await.is_err() {
                break;
            }
        }
    });
    let outgoing = tokio::spawn(async move {
        while let Some(message) = link.messages.recv().await {
            writer.write(&message?).await?;
            if link.messages.is_empty() {
                writer.flush().await?;
            }
        }
        writer.flush().await
    });
    let (_, served) = agent.serve(port, signals).await;
    incoming.abort();
    // A client that does not read any more has lost nothing that it wanted.
    if let Ok(Err(error)) = outgoing.await {
        tracing::debug!("the client is gone: {}", with_causes(&error));
    }
    served
}
