//! From a request's bytes to the answer's: whole and cut anywhere the answers are the same, and every Location leads to
//! the configured server. The first byte says where to cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tests::scripted;

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, request)) = bytes.split_first() else {
        return;
    };
    let mut context = scripted::context();
    let whole = scripted::say(&[request], &mut context);
    let (first, second) = request.split_at(request.len() * usize::from(cut) / 256);
    if !first.is_empty() && !second.is_empty() {
        assert_eq!(scripted::say(&[first, second], &mut context), whole);
    }
    for line in whole.0.split(|&byte| byte == b'\n') {
        if line.len() >= 9 && line[..9].eq_ignore_ascii_case(b"location:") {
            assert!(
                line.starts_with(b"Location: http://a.test/"),
                "{}",
                line.escape_ascii()
            );
        }
    }
});
