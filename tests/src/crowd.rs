//! Many slow connections, held by one thread: each says a little now and then, or nothing, and it is known when the
//! server ended it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Connections that have their turn at once.
const SLICE: usize = 25;

/// The connections.
#[derive(Debug)]
pub struct Crowd(Vec<Slow>);

/// One of them.
#[derive(Debug)]
struct Slow {
    stream: TcpStream,
    /// When its first byte left.
    began: Instant,
    /// How long it lasted, once it has ended.
    lasted: Option<Duration>,
}

impl Crowd {
    /// Opens `count` connections, each with `opening` as its first bytes.
    pub fn open(address: SocketAddr, count: usize, opening: &[u8]) -> Self {
        let slow = |_| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))
                .expect("a connection");
            let began = Instant::now();
            stream.write_all(opening).expect("sent");
            stream.set_nonblocking(true).expect("a socket");
            Slow {
                stream,
                began,
                lasted: None,
            }
        };
        Self((0..count).map(slow).collect())
    }

    /// Each that has not ended sends `bytes`, as far as there is room, and looks whether it has ended; spread over
    /// `time`, since slow clients know nothing of each other.
    pub fn round(&mut self, bytes: &[u8], time: Duration) {
        let slices = self.0.len().div_ceil(SLICE).max(1);
        for slice in self.0.chunks_mut(SLICE) {
            slice
                .iter_mut()
                .filter(|slow| slow.lasted.is_none())
                .for_each(|slow| slow.round(bytes));
            thread::sleep(time / u32::try_from(slices).expect("not that many"));
        }
    }

    /// How many have not ended, as of the last round.
    pub fn left(&self) -> usize {
        self.0.iter().filter(|slow| slow.lasted.is_none()).count()
    }

    /// The longest time between a connection's first byte and its end; what has not ended counts up to now.
    pub fn longest(&self) -> Duration {
        self.0
            .iter()
            .map(|slow| slow.lasted.unwrap_or_else(|| slow.began.elapsed()))
            .max()
            .unwrap_or_default()
    }
}

impl Slow {
    fn round(&mut self, bytes: &[u8]) {
        let waits = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        let written = self.stream.write(bytes);
        let mut scrap = [0; 512];
        let ended = match self.stream.read(&mut scrap) {
            Ok(count) => count == 0,
            Err(error) => !waits(&error),
        };
        if ended || written.is_err_and(|error| !waits(&error)) {
            self.lasted = Some(self.began.elapsed());
        }
    }
}
