//! Huge pages under memory that is read here and there: finding it would cost more than reading it.

use std::ops::Range;

/// `MADV_COLLAPSE` of Linux 6.1 (madvise(2)); the libc crate has no name for it.
const MADV_COLLAPSE: libc::c_int = 25;

/// Bytes of a huge page.
pub const HUGE: usize = 2 << 20;

/// Has the kernel put what lies at these addresses into huge pages, with what lies beside it in them. What it holds
/// stays as it is. Where the kernel is older, or has none to give, nothing happens.
pub fn collapse(addresses: Range<usize>) {
    let (start, end) = (
        addresses.start / HUGE * HUGE,
        addresses.end.next_multiple_of(HUGE),
    );
    // SAFETY: this changes which pages hold the memory, never what a program finds there, whatever the addresses are;
    // those that are not this process's own are passed over.
    #[allow(unsafe_code, reason = "no safe crate offers MADV_COLLAPSE")]
    let _ = unsafe { libc::madvise(start as *mut libc::c_void, end - start, MADV_COLLAPSE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_and_what_lies_beside_it_stays_as_it_is() {
        let held: Vec<usize> = (0..3 * HUGE / size_of::<usize>()).collect();
        let Range { start, end } = held.as_ptr_range();
        collapse(start.addr() + HUGE..end.addr() - HUGE);
        collapse(start.addr()..end.addr());
        assert!(
            held.iter()
                .enumerate()
                .all(|(index, &number)| index == number)
        );
    }
}
