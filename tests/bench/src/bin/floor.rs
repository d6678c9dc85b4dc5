//! `floor PORT keep|close REPLY`: see the module of the same name.
#![allow(clippy::print_stderr, reason = "a program's own words")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, manner, reply] = arguments.as_slice() else {
        eprintln!("usage: floor PORT keep|close REPLY");
        return ExitCode::from(2);
    };
    let Ok(port) = port.parse() else {
        eprintln!("floor: `{port}` is no port");
        return ExitCode::from(2);
    };
    match bench::floor::serve(port, reply.as_bytes(), manner == "close") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}
