//! Sockets: families, types, names, and what is passed over them.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::ffi::OsStrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
};

use anyhow::{Result, ensure};
use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, O_RDONLY, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK,
    SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM,
};

use crate::call::{Child, c, fd, open, refused, sys};

pub(crate) fn families(_: &Path) -> Result<()> {
    for (family, kind) in [
        (AF_INET, SOCK_STREAM),
        (AF_INET, SOCK_DGRAM),
        (AF_INET6, SOCK_STREAM | SOCK_NONBLOCK),
        (AF_UNIX, SOCK_STREAM),
        (AF_UNIX, SOCK_DGRAM),
        (AF_UNIX, SOCK_SEQPACKET),
        (AF_NETLINK, SOCK_RAW),
        (AF_NETLINK, SOCK_DGRAM),
    ] {
        fd(sys!(libc::SYS_socket, family, kind | SOCK_CLOEXEC, 0))?;
    }
    // These need a capability besides, and the second a module.
    fd(sys!(libc::SYS_socket, AF_INET, SOCK_RAW, libc::IPPROTO_ICMP))?;
    match sys!(libc::SYS_socket, AF_PACKET, SOCK_RAW, 0) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
        other => drop(fd(other)?),
    }
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let mut ends = [0_i32; 2];
        sys!(libc::SYS_socketpair, AF_UNIX, kind, 0, ends.as_mut_ptr())?;
        ends.iter().try_for_each(|&end| fd(Ok(end.into())).map(drop))?;
    }
    refused(sys!(libc::SYS_socket, 99, SOCK_STREAM, 0), libc::EAFNOSUPPORT)
}

/// The loopback address: the same on every machine.
pub(crate) fn internet(_: &Path) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"x")?;
    server.read_exact(&mut [0])?;
    let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    one.send_to(b"x", other.local_addr()?)?;
    ensure!(other.recv(&mut [0; 4])? == 1);
    // A port that needs a capability, if it is free: net_bind_service is asked for either way.
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 81)) {
        Err(error) if error.raw_os_error() != Some(libc::EADDRINUSE) => Err(error.into()),
        _ => Ok(()),
    }
}

pub(crate) fn unix(dir: &Path) -> Result<()> {
    let listener = UnixListener::bind(dir.join("stream"))?;
    let mut client = UnixStream::connect(dir.join("stream"))?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"x")?;
    server.read_exact(&mut [0])?;
    let receiver = UnixDatagram::bind(dir.join("datagram"))?;
    UnixDatagram::unbound()?.send_to(b"x", dir.join("datagram"))?;
    let connected = UnixDatagram::unbound()?;
    connected.connect(dir.join("datagram"))?;
    connected.send(b"x")?;
    ensure!(receiver.recv(&mut [0; 4])? == 1);
    both_named(dir, &listener)?;
    let name = SocketAddr::from_abstract_name(format!("khard-{}", std::process::id()))?;
    let _listener = UnixListener::bind_addr(&name)?;
    UnixStream::connect_addr(&name)?;
    refused(UnixStream::connect(dir.join("none")), libc::ENOENT)?;
    refused(UnixListener::bind(dir.join("stream")), libc::EADDRINUSE)
}

/// Both ends have a path, and what is said is written and read as of files.
fn both_named(dir: &Path, listener: &UnixListener) -> Result<()> {
    let written = |socket: i32| sys!(libc::SYS_write, socket, b"x".as_ptr(), 1);
    let read = |socket: i32| sys!(libc::SYS_read, socket, [0_u8; 4].as_mut_ptr(), 4);
    let client = fd(sys!(libc::SYS_socket, AF_UNIX, SOCK_STREAM, 0))?;
    for (call, name) in [(libc::SYS_bind, "client"), (libc::SYS_connect, "stream")] {
        let (address, len) = address(&dir.join(name))?;
        sys!(call, client, &raw const address, len)?;
    }
    let (server, _) = listener.accept()?;
    written(client.as_raw_fd())?;
    ensure!(read(server.as_raw_fd())? == 1);
    written(server.as_raw_fd())?;
    ensure!(read(client.as_raw_fd())? == 1);
    let (asking, answering) =
        (UnixDatagram::bind(dir.join("asking"))?, UnixDatagram::bind(dir.join("answering"))?);
    asking.connect(dir.join("answering"))?;
    written(asking.as_raw_fd())?;
    ensure!(read(answering.as_raw_fd())? == 1);
    answering.send_to(b"x", dir.join("asking"))?;
    ensure!(read(asking.as_raw_fd())? == 1);
    Ok(())
}

/// `sockaddr_un` with a path, and its length.
fn address(path: &Path) -> Result<(libc::sockaddr_un, u32)> {
    // SAFETY: all of its fields are numbers.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = u16::try_from(AF_UNIX)?;
    let bytes = path.as_os_str().as_bytes();
    ensure!(bytes.len() < address.sun_path.len(), "{} is too long for a socket", path.display());
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok((address, u32::try_from(size_of::<libc::sockaddr_un>())?))
}

/// A descriptor that another process opened.
pub(crate) fn passing(dir: &Path) -> Result<()> {
    std::fs::write(dir.join("file"), "text")?;
    let (ours, theirs) = UnixStream::pair()?;
    let sender = Child::new(|| send(&theirs, &open(dir.join("file"), O_RDONLY, 0)?))?;
    let file = receive(&ours)?;
    ensure!(sender.wait()?.success());
    let mut text = [0_u8; 4];
    ensure!(sys!(libc::SYS_read, file, text.as_mut_ptr(), 4_u32)? == 4 && &text == b"text");
    Ok(())
}

/// A message with one byte and room for one descriptor: struct msghdr as `CMSG_FIRSTHDR` wants it.
#[repr(C)]
struct Message {
    byte: [u8; 8],
    part: libc::iovec,
    /// struct cmsghdr (length, level, type), and the descriptor.
    control: (usize, i32, i32, i32),
}

fn with_message<T>(descriptor: i32, call: impl FnOnce(&mut libc::msghdr) -> T) -> (T, i32) {
    let mut message = Message {
        byte: [0; 8],
        part: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 },
        control: (20, libc::SOL_SOCKET, libc::SCM_RIGHTS, descriptor),
    };
    message.part.iov_base = message.byte.as_mut_ptr().cast();
    // SAFETY: all of msghdr's fields are numbers and pointers, which may be 0.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut message.part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut message.control).cast();
    header.msg_controllen = 24;
    let result = call(&mut header);
    (result, message.control.3)
}

fn send(socket: &UnixStream, file: &OwnedFd) -> Result<()> {
    let call = |header: &mut libc::msghdr| sys!(libc::SYS_sendmsg, socket.as_raw_fd(), &raw mut *header, 0);
    with_message(file.as_raw_fd(), call).0?;
    Ok(())
}

fn receive(socket: &UnixStream) -> Result<OwnedFd> {
    let call = |header: &mut libc::msghdr| sys!(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut *header, 0);
    let (result, descriptor) = with_message(-1, call);
    result?;
    Ok(fd(Ok(descriptor.into()))?)
}

/// A POSIX message queue, which is a file of a file system of its own.
pub(crate) fn queue(_: &Path) -> Result<()> {
    let name = c("khard-exercise");
    let flags = libc::O_RDWR | libc::O_CREAT;
    fd(sys!(libc::SYS_mq_open, name, flags, 0o600, 0))?;
    fd(sys!(libc::SYS_mq_open, name, O_RDONLY, 0, 0))?;
    sys!(libc::SYS_mq_unlink, name)?;
    Ok(())
}
