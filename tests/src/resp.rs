//! A connection to Redis that says commands and reads replies, for what tests do to a server behind the programs' back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A word such as `OK`.
    Word(String),
    /// A refusal.
    Error(String),
    /// A number.
    Number(i64),
    /// Bytes, read as text.
    Text(String),
    /// Nothing there.
    Nil,
    /// Several replies.
    List(Vec<Reply>),
}

impl Reply {
    /// The text of a word or of bytes; empty for anything else.
    pub fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Text(text) => text,
            _ => "",
        }
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::List(items) => items.iter().map(|item| item.text().to_owned()).collect(),
            _ => Vec::new(),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Resp {
    reader: BufReader<TcpStream>,
}

impl Resp {
    /// Connects, and gives the password if there is one.
    ///
    /// # Errors
    /// As the kernel gives them, or when the password is refused.
    pub fn open(address: SocketAddr, password: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut open = Self {
            reader: BufReader::new(stream),
        };
        if let Some(password) = password
            && let Reply::Error(why) = open.call(&["AUTH", password])?
        {
            return Err(io::Error::other(why));
        }
        Ok(open)
    }

    /// Says a command and reads the reply.
    ///
    /// # Errors
    /// When the connection breaks or what comes is no reply.
    pub fn call(&mut self, command: &[&str]) -> io::Result<Reply> {
        self.send(command)?;
        self.reply()
    }

    /// Says a command and waits for nothing.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send(&mut self, command: &[&str]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", command.len());
        command
            .iter()
            .for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
        self.reader.get_mut().write_all(bytes.as_bytes())
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let line = line.trim_end();
        let number = |digits: &str| digits.parse::<i64>().map_err(io::Error::other);
        let mut characters = line.chars();
        let (kind, rest) = (characters.next(), characters.as_str());
        Ok(match kind {
            Some('+') => Reply::Word(rest.to_owned()),
            Some('-') => Reply::Error(rest.to_owned()),
            Some(':') => Reply::Number(number(rest)?),
            Some('$') => match usize::try_from(number(rest)?) {
                Ok(length) => self.text(length)?,
                Err(_) => Reply::Nil,
            },
            Some('*') => Reply::List(
                (0..number(rest)?)
                    .map(|_| self.reply())
                    .collect::<io::Result<_>>()?,
            ),
            Some(_) => return Err(io::Error::other(format!("no reply: {line}"))),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn text(&mut self, length: usize) -> io::Result<Reply> {
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }
}
