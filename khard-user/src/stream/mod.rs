//! The session stream: what an agent that records and a client that shows and writes tell each other, in one process or through
//! any command that carries bytes. `docs/stream.md` describes it for others.
//!
//! Owns the words and how they are framed. It must not know who records nor what becomes of it.

mod frame;
mod message;
mod selector;

pub use frame::{FrameReader, FrameWriter, MAX_FRAME_BYTES, StreamError};
pub use message::{
    By, Command, Message, Outcome, Placement, Rate, Request, Stage, SubjectId, SubjectState, Target,
};
pub use selector::{BadSelector, Selector};

/// The version of the stream that this khard speaks, the only one.
pub const VERSION: u32 = 3;

/// Messages on their way in one process, before whoever sends them waits.
pub const IN_FLIGHT: usize = 4096;
