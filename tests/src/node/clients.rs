//! Clients of what runs in pods: one request, one answer, and never longer than a limit. Own no retries.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A server that says nothing for so long does not serve. In guests a first answer takes a second.
const SILENCE: Duration = Duration::from_secs(10);

/// The status line and the body of an answer to `GET PATH`. Headers are left out: they have the time.
///
/// # Errors
/// Nobody answers.
pub fn http(ip: &str, port: u16, path: &str) -> io::Result<String> {
    let mut stream = connect(ip, port)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no answer but {answer:?}")))?;
    let status = head.lines().next().unwrap_or_default();
    Ok(format!("{status}\n{body}"))
}

/// The first line of the answer to each of some commands, which go over one connection.
///
/// # Errors
/// Nobody answers.
pub fn redis(ip: &str, commands: &[&str]) -> io::Result<Vec<String>> {
    let mut stream = connect(ip, 6379)?;
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    let mut said = Vec::new();
    for command in commands {
        write!(stream, "{command}\r\n")?;
        let line = answers.next().ok_or_else(|| io::Error::other(format!("no answer to {command}")))??;
        said.push(line);
    }
    Ok(said)
}

fn connect(ip: &str, port: u16) -> io::Result<TcpStream> {
    let ip = ip.parse().map_err(|_| io::Error::other(format!("{ip:?} is no address")))?;
    let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), SILENCE)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}
