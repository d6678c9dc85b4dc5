//! Any text as rbalancer.conf: problems or a table, never a panic; and a table is one that every reader takes.
#![no_main]

use common::config::ini::Document;
use common::model::farm::Farms;
use deploy::conf::{self, Flags};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (document, problems) = Document::parse("fuzz.conf", text);
    if let Ok(conf) = conf::parse(&document, problems, Flags::default()) {
        let json = serde_json::to_vec(&conf.farms).expect("a table has a JSON form");
        assert_eq!(
            serde_json::from_slice::<Farms>(&json).expect("it reads back"),
            conf.farms
        );
    }
});
