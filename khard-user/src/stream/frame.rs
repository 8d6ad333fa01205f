//! How words are carried: a first line with the version, then for each word its length and its JSON. Knows no word.
//!
//! Whoever reads believes nothing: a length is refused before anything of that size is made, and a peer that speaks of something
//! else (a login banner, an error of the command that should have led there) is quoted.

use std::io;

use khard_profile::escape;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use super::VERSION;

/// The longest word. The longest that an agent sends is a mount with four names of 8 KiB each, of bytes that take six in JSON.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// The first line, before the version.
const GREETING: &str = "khard-stream ";
/// As much of the first line is looked at.
const MAX_GREETING_BYTES: usize = 200;

/// The other side cannot be understood, or is gone.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It speaks of something else.
    #[error(
        "the other side does not speak khard's stream, it said {}: check that the command leads to `khard agent --stdio` and prints nothing else", if .0.is_empty() { "nothing".to_owned() } else { format!("\"{}\"", escape::terminal(.0)) }
    )]
    NotAStream(Vec<u8>),
    /// Another version.
    #[error(
        "the other side speaks version {theirs} of khard's stream, this khard speaks version {ours}: use the same khard on both sides"
    )]
    Version {
        /// The other side's.
        theirs: String,
        /// Ours.
        ours: u32,
    },
    /// A word that is longer than any.
    #[error(
        "the other side sent a message of {0} bytes, {MAX_FRAME_BYTES} at most are allowed: the stream is broken"
    )]
    TooLong(usize),
    /// A word that is none.
    #[error("the other side sent a message that khard does not know: the stream is broken")]
    Malformed(#[source] serde_json::Error),
    /// The end within a word.
    #[error("the stream was cut within a message")]
    Cut,
    /// The bytes do not come or go.
    #[error("cannot {what} the stream")]
    Io {
        /// Read or write.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> StreamError {
    move |source| StreamError::Io { what, source }
}

/// Reads words.
pub struct FrameReader<R> {
    inner: BufReader<R>,
    is_greeted: bool,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader of a stream from its beginning.
    pub fn new(inner: R) -> Self {
        Self { inner: BufReader::new(inner), is_greeted: false, buffer: Vec::new() }
    }

    /// The next word; `None` where the stream ends between two. Not cancel safe.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        if !self.is_greeted {
            self.greeting().await?;
            self.is_greeted = true;
        }
        let mut length = [0; 4];
        match self.inner.read(&mut length[..1]).await.map_err(failed("read"))? {
            0 => return Ok(None),
            _ => self.fill(&mut length[1..]).await?,
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(StreamError::TooLong(length));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(length, 0);
        self.fill(&mut buffer).await?;
        let word = serde_json::from_slice(&buffer).map_err(StreamError::Malformed)?;
        self.buffer = buffer;
        Ok(Some(word))
    }

    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), StreamError> {
        match self.inner.read_exact(bytes).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(StreamError::Cut),
            Err(error) => Err(failed("read")(error)),
        }
    }

    async fn greeting(&mut self) -> Result<(), StreamError> {
        let mut line = Vec::new();
        let mut first = (&mut self.inner).take(MAX_GREETING_BYTES as u64);
        first.read_until(b'\n', &mut line).await.map_err(failed("read"))?;
        let version = line.strip_prefix(GREETING.as_bytes()).and_then(|rest| rest.strip_suffix(b"\n"));
        match version {
            Some(version) if version == VERSION.to_string().as_bytes() => Ok(()),
            Some(version) if !version.is_empty() && version.iter().all(u8::is_ascii_digit) => {
                Err(StreamError::Version {
                    theirs: String::from_utf8_lossy(version).into_owned(),
                    ours: VERSION,
                })
            }
            _ => Err(StreamError::NotAStream(line.trim_ascii_end().to_vec())),
        }
    }
}

/// Writes words.
pub struct FrameWriter<W> {
    inner: BufWriter<W>,
    is_greeted: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer of a stream from its beginning.
    pub fn new(inner: W) -> Self {
        Self { inner: BufWriter::new(inner), is_greeted: false }
    }

    /// Writes the first line, if that was not done.
    pub async fn greet(&mut self) -> Result<(), StreamError> {
        if !self.is_greeted {
            self.is_greeted = true;
            let line = format!("{GREETING}{VERSION}\n");
            self.inner.write_all(line.as_bytes()).await.map_err(failed("write"))?;
        }
        Ok(())
    }

    /// Writes a word. It may wait for [`Self::flush`].
    pub async fn write<T: Serialize>(&mut self, word: &T) -> Result<(), StreamError> {
        self.greet().await?;
        let json = serde_json::to_vec(word).map_err(StreamError::Malformed)?;
        let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MAX_FRAME_BYTES);
        let length = length.ok_or(StreamError::TooLong(json.len()))?;
        self.inner.write_all(&length.to_le_bytes()).await.map_err(failed("write"))?;
        self.inner.write_all(&json).await.map_err(failed("write"))
    }

    /// Sends what was written.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        self.inner.flush().await.map_err(failed("write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn written(words: &[&str]) -> Vec<u8> {
        block_on(async {
            let mut bytes = Vec::new();
            let mut writer = FrameWriter::new(&mut bytes);
            for word in words {
                writer.write(word).await.unwrap();
            }
            writer.flush().await.unwrap();
            bytes
        })
    }

    /// All words, and how it ended.
    fn read(bytes: &[u8]) -> (Vec<String>, Result<(), StreamError>) {
        block_on(async {
            let mut reader = FrameReader::new(bytes);
            let mut words = Vec::new();
            loop {
                match reader.next().await {
                    Ok(Some(word)) => words.push(word),
                    Ok(None) => return (words, Ok(())),
                    Err(error) => return (words, Err(error)),
                }
            }
        })
    }

    #[test]
    fn words_arrive_as_they_were_sent() {
        let (words, end) = read(&written(&["one", "", "three\n"]));
        assert_eq!(words, ["one", "", "three\n"]);
        assert!(end.is_ok());
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_gives_the_words_before_and_a_clear_end() {
        let whole = written(&["one", "two"]);
        for at in 0..whole.len() {
            let (words, end) = read(&whole[..at]);
            assert!(words.len() < 2 && words.iter().zip(["one", "two"]).all(|(word, is)| word == is));
            let border = [15, 15 + 4 + 5].contains(&at);
            assert_eq!(end.is_ok(), border, "at {at}: {end:?}");
        }
    }

    #[test]
    fn another_version_is_refused_with_both_numbers() {
        let error = read(b"khard-stream 7\n").1.unwrap_err().to_string();
        assert!(error.contains("version 7") && error.contains(&format!("version {VERSION}")), "{error}");
    }

    #[test]
    fn a_peer_that_speaks_of_something_else_is_quoted_without_its_escapes() {
        let error = read(b"\x1b[31mWelcome!\nand more").1.unwrap_err().to_string();
        assert!(error.contains("\\x1b[31mWelcome!") && !error.contains('\x1b'), "{error}");
        let endless = [b'x'; 10_000];
        let error = read(&endless).1.unwrap_err();
        assert!(matches!(&error, StreamError::NotAStream(line) if line.len() == MAX_GREETING_BYTES));
        assert!(read(b"").1.unwrap_err().to_string().contains("said nothing"));
    }

    #[test]
    fn a_length_that_no_word_has_is_refused_before_it_is_believed() {
        let mut bytes = written(&["one"]);
        bytes.extend(u32::MAX.to_le_bytes());
        let (words, end) = read(&bytes);
        assert_eq!(words, ["one"]);
        assert!(matches!(end, Err(StreamError::TooLong(n)) if n == u32::MAX as usize));
    }

    #[test]
    fn garbage_where_a_word_should_be_ends_the_stream() {
        let mut bytes = written(&["one"]);
        bytes.extend(5u32.to_le_bytes());
        bytes.extend(b"{{{{{");
        assert!(matches!(read(&bytes).1, Err(StreamError::Malformed(_))));
    }
}
