//! Returns memory to the system that only the start and a reload have needed.
//!
//! The server calls this after each of the two. It never touches memory in use, and it cannot fail: memory that the
//! system does not take back stays.

use std::fs;
use std::ptr;

/// Returns free heap and unused program code to the system. The kernel maps code again from its page cache when it
/// runs again. Most of an idle daemon's memory is code that has read its table and does not run again.
pub(crate) fn release_unused() {
    // The C library's own lists of free memory; only glibc keeps any.
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (begin, end) in maps.lines().filter_map(code_range) {
        let (begin, length) = (ptr::with_exposed_provenance_mut(begin), end - begin);
        // SAFETY: the range is one mapping of this process, from a file, and not writable: the kernel reads a page
        // that is dropped here from the file again when it is next needed (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(begin, length, libc::MADV_DONTNEED) };
    }
}

/// The address range in a line of /proc/self/maps (proc(5)), if it is code of a file: readable, executable, not
/// writable. A range that is only readable does not count, because the loader may have written to it.
fn code_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?;
    if permissions != "r-xp" || !path.starts_with('/') {
        return None;
    }
    let (begin, end) = range.split_once('-')?;
    let (begin, end) = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (begin < end).then_some((begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_given_back() {
        let is = |line: &str| code_range(line);
        assert_eq!(is("55d0a000-55d0f000 r-xp 00008000 fe:00 51 /usr/sbin/oxinetd"), Some((0x55d0_a000, 0x55d0_f000)));
        for line in [
            "55d0a000-55d0f000 r--p 00008000 fe:00 51 /usr/sbin/oxinetd",
            "55d0a000-55d0f000 rw-p 00008000 fe:00 51 /usr/sbin/oxinetd",
            "55d0a000-55d0f000 r-xs 00008000 fe:00 51 /usr/sbin/oxinetd",
            "55d0a000-55d0f000 r-xp 00000000 00:00 0",
            "7ffd1000-7ffd3000 r-xp 00000000 00:00 0 [vdso]",
            "nonsense",
            "",
        ] {
            assert_eq!(is(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let kept = vec![7_u8; 100_000];
        for _ in 0..3 {
            release_unused();
            assert_eq!(kept.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 700_000);
        }
    }
}
