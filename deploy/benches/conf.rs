//! Reading a configuration: the text, then the farms in it.

use common::config::ini::Document;
use deploy::conf::{Flags, parse};
use divan::{Bencher, black_box};
use std::fmt::Write;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 100, 1000], sample_count = 5)]
fn document(bencher: Bencher<'_, '_>, farms: usize) {
    let text = text(farms);
    bencher.bench_local(|| Document::parse("bench.conf", black_box(&text)));
}

#[divan::bench(args = [1, 100, 1000], sample_count = 5)]
fn farms(bencher: Bencher<'_, '_>, farms: usize) {
    let (document, _) = Document::parse("bench.conf", &text(farms));
    bencher.bench_local(|| {
        parse(black_box(&document), Vec::new(), Flags::default()).expect("a good file")
    });
}

/// `farms` farms of ten servers.
fn text(farms: usize) -> String {
    let names = |count: usize, prefix: &str| {
        (0..count)
            .map(|index| format!("{prefix}{index}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = format!("[farms]\nlist = {}\n", names(farms, "f"));
    for farm in 0..farms {
        let _ = write!(
            text,
            "[f{farm}]\ndomain = img{farm}.test\nlist = {}\n",
            names(10, &format!("f{farm}-"))
        );
        for server in 0..10 {
            let _ = write!(
                text,
                "[f{farm}-{server}]\ndomain = http://img{server}.test\nweight = 10\n"
            );
        }
    }
    text
}
