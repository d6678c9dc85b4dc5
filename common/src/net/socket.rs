//! The few socket calls no safe crate has, and thin names for the safe ones the hot path uses.
//! Only the three files that `unsafe_code` names in the workspace's Cargo.toml may hold `unsafe`.

use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Whether other sockets may listen on the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else.
    Exclusive,
    /// Sockets of the same user: threads, or processes that overlap during a restart.
    Shared,
}

/// A silent client is handed over by the kernel after about this long, without having asked for anything.
const DEFER_ACCEPT_SECONDS: libc::c_int = 1;

/// A non-blocking listening socket; with `only_v6` one of IPv6 takes no IPv4 clients (ipv6(7), IPV6_V6ONLY). Accepted connections inherit TCP_NODELAY.
pub fn listen(
    address: SocketAddr,
    only_v6: bool,
    sharing: Sharing,
    backlog: i32,
) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Shared)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Has the kernel hold back connections until their first bytes arrive (Linux tcp(7), TCP_DEFER_ACCEPT), so that
/// the read after an accept finds them; or, with `false`, hands over silent ones at once.
pub fn defer_accept(listener: &TcpListener, on: bool) -> io::Result<()> {
    let seconds: libc::c_int = if on { DEFER_ACCEPT_SECONDS } else { 0 };
    // SAFETY: the descriptor is open for the length of the borrow, and the pointer and length name a live c_int.
    #[allow(unsafe_code, reason = "no safe crate offers TCP_DEFER_ACCEPT")]
    let outcome = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has accepted connections acknowledge a request with its answer, not with a segment of its own: they inherit it
/// (Linux tcp(7), TCP_QUICKACK). A request that is not answered at once is acknowledged after 40 ms.
pub fn spare_acks(listener: &TcpListener) -> io::Result<()> {
    socket2::SockRef::from(listener).set_tcp_quickack(false)
}

/// Has the kernel ignore all but first words of `listener`'s clients, who say the rest again: no connection enters its
/// queue any more. One that it is just making inherits that, to be [`heard`] after it is accepted.
pub fn hold_handshakes(listener: &TcpListener) -> io::Result<()> {
    // RFC 9293 section 3.1: where the flags are in a segment, and two of them.
    const FLAGS: u32 = 13;
    const SYN: u32 = 2;
    const ACK: u32 = 16;
    let instruction =
        |code: u32, then, otherwise, value| SockFilter::new(code as u16, then, otherwise, value);
    socket2::SockRef::from(listener).attach_filter(&[
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ])
}

/// Ends for an accepted connection what [`hold_handshakes`] began.
pub fn heard(stream: &TcpStream) {
    // Most have inherited nothing.
    let _ = socket2::SockRef::from(stream).detach_filter();
}

/// Accepts one connection, already non-blocking: one system call, no address asked for.
pub fn accept(listener: &impl AsFd) -> io::Result<TcpStream> {
    let fd = rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok(TcpStream::from(fd))
}

/// Reads what is there; 0 is the peer's end.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::empty())?.0)
}

/// Looks at what is there without taking it; 0 is the peer's end.
pub fn peek(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::PEEK)?.0)
}

/// Writes what fits. With `more`, the kernel holds a partial segment back until the next write or the close, so
/// that data and FIN leave together: only for a last answer that a close follows at once.
pub fn send(socket: &impl AsFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = if more {
        SendFlags::NOSIGNAL | SendFlags::MORE
    } else {
        SendFlags::NOSIGNAL
    };
    Ok(rustix::net::send(socket, bytes, flags)?)
}

/// Writes what fits of several buffers at once, as [`send`] does of one.
pub fn send_vectored(
    socket: &impl AsFd,
    buffers: &[io::IoSlice<'_>],
    more: bool,
) -> io::Result<usize> {
    let flags = if more {
        libc::MSG_NOSIGNAL | libc::MSG_MORE
    } else {
        libc::MSG_NOSIGNAL
    };
    socket2::SockRef::from(&socket.as_fd()).send_vectored_with_flags(buffers, flags)
}

/// Raises the soft limit of open files to the hard one; the limit then in force.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let in_force = if setrlimit(Resource::Nofile, raised).is_ok() {
        raised
    } else {
        limit
    };
    in_force.current.unwrap_or(1 << 20)
}

/// Ends one side of a connection, or both.
pub fn end(socket: &impl AsFd, side: std::net::Shutdown) {
    // A peer that is gone already needs no end.
    let _ = socket2::SockRef::from(&socket.as_fd()).shutdown(side);
}

/// The peer's address.
pub fn peer(socket: &impl AsFd) -> io::Result<std::net::IpAddr> {
    let address = socket2::SockRef::from(&socket.as_fd()).peer_addr()?;
    address
        .as_socket()
        .map(|address| address.ip())
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// A listener on the current runtime's reactor, to wait until connections can be accepted.
pub fn watch(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    #[allow(
        unsafe_code,
        reason = "AsyncFd asks its caller to vouch for the descriptor"
    )]
    // SAFETY: a TcpListener owns its descriptor, always answers with the same one, and closes it only when dropped,
    // which AsyncFd does after it has left the reactor.
    let watched = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn a_held_handshake_goes_on_when_the_client_repeats_itself() {
        let listener = listen(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            false,
            Sharing::Exclusive,
            8,
        )
        .expect("a free port");
        hold_handshakes(&listener).expect("a filter");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound"))
            .expect("its first words are answered");
        client.write_all(b"x").expect("sent");
        // On loopback all of that has arrived.
        assert_eq!(
            accept(&listener).expect_err("held").kind(),
            io::ErrorKind::WouldBlock
        );
        socket2::SockRef::from(&listener)
            .detach_filter()
            .expect("one is there");
        let door = watch(listener).expect("a reactor");
        let accepted = door
            .async_io(Interest::READABLE, accept)
            .await
            .expect("a client");
        heard(&accepted);
        let accepted = tokio::net::TcpStream::from_std(accepted).expect("a socket");
        accepted.readable().await.expect("what it said");
        assert_eq!(receive(&accepted, &mut [0; 8]).expect("bytes"), 1);
    }
}
