//! `floor PORT keep|close|origins REPLY`: see the module of the same name. `origins` closes, and is there on every
//! address of loopback.
#![allow(clippy::print_stderr, reason = "a program's own words")]

use bench::floor::serve;
use bench::socket::{listen, listen_everywhere};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, manner, reply] = arguments.as_slice() else {
        eprintln!("usage: floor PORT keep|close|origins REPLY");
        return ExitCode::from(2);
    };
    let Ok(port) = port.parse() else {
        eprintln!("floor: `{port}` is no port");
        return ExitCode::from(2);
    };
    let listener = if manner == "origins" {
        listen_everywhere(port)
    } else {
        listen(port)
    };
    match listener.and_then(|listener| serve(&listener, reply.as_bytes(), manner != "keep")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}
