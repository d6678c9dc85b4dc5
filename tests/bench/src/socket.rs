//! Sockets as the floor and the load use them: plain system calls and two options no safe function sets.

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::BindToDevice;
use nix::{libc, setsockopt_impl, sockopt_impl};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

sockopt_impl!(
    /// Hands a connection over when its first bytes are there (Linux tcp(7)).
    DeferAccept,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);
sockopt_impl!(
    /// Binds an address and leaves the port to connect(2), which sees the destination too (Linux ip(7)).
    BindAddressNoPort,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_BIND_ADDRESS_NO_PORT,
    bool
);

/// Source addresses of clients. Each has ports of its own, so that those still in TIME_WAIT are not missed.
const SOURCES: u32 = 64;

/// A non-blocking listener on loopback that hands connections over with their first bytes.
pub fn listen(port: u16) -> io::Result<OwnedFd> {
    let socket = unbound()?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, 4096)?;
    setsockopt(&socket, DeferAccept, &1)?;
    Ok(socket)
}

/// The same on every address of loopback, and on no other.
pub fn listen_everywhere(port: u16) -> io::Result<OwnedFd> {
    let socket = unbound()?;
    setsockopt(&socket, BindToDevice, &OsString::from("lo"))?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket)
}

/// A listener on loopback for a process to be started, which inherits it; others may listen on the same port beside it.
///
/// # Errors
/// When the port is taken by somebody who shares it with nobody.
pub fn listen_for_a_child(port: u16) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket)
}

fn unbound() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Begins a connection to `port` on loopback, from one of many addresses by `turn`; does not wait for it.
pub fn dial(port: u16, turn: u32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    setsockopt(&socket, BindAddressNoPort, &true)?;
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + turn % SOURCES);
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    match rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Accepts one connection, already non-blocking.
pub fn accept(listener: &impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(
        listener,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
    )?)
}

/// Reads what is there; 0 is the peer's end.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::empty())?.0)
}

/// Writes what fits.
pub fn send(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
}
