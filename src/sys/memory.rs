//! Giving back what only the start and a reload have needed.

use std::fs;
use std::ptr;

/// Gives memory back to the system: heap that is free, and program code, which the kernel maps again, from its page
/// cache, where it is still used. Most of an idle daemon's memory is code that has read its table and will not run
/// again. What can't be given back stays.
pub fn give_back() {
    // The C library's own lists of free memory; only glibc keeps any.
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (begin, end) in maps.lines().filter_map(code) {
        let (begin, length) = (ptr::with_exposed_provenance_mut(begin), end - begin);
        // SAFETY: the range is one mapping of this process, from a file, that nobody can write to: what is thrown away
        // here is read again from the file when it is next needed (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(begin, length, libc::MADV_DONTNEED) };
    }
}

/// The addresses of a line of /proc/self/maps (proc(5)) that is code of a file: readable, executable, not writable. Data
/// that are only readable now may have been written when the program was loaded.
fn code(line: &str) -> Option<(usize, usize)> {
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
        let is = |line: &str| code(line);
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
            give_back();
            assert_eq!(kept.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 700_000);
        }
    }
}
