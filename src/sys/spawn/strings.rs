//! C strings in the form that execve(2) wants. Refilling allocates nothing once the buffers are large.

use std::ffi::{CStr, c_char};
use std::ptr;

/// C strings, one after the other, and the list of pointers to them.
#[derive(Debug)]
pub struct Strings {
    bytes: Vec<u8>,
    /// Points into `bytes`, whose content does not change while the list is in use; ends with a null pointer.
    list: Vec<*const c_char>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { bytes: Vec::new(), list: vec![ptr::null()] }
    }
}

impl Strings {
    /// Replaces the content: `fill` writes the strings to the emptied buffer, with a NUL byte after each.
    pub fn refill(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.clear();
        fill(&mut self.bytes);
        self.list.clear();
        let mut rest = self.bytes.as_slice();
        while let Ok(string) = CStr::from_bytes_until_nul(rest) {
            self.list.push(string.as_ptr());
            rest = &rest[string.count_bytes() + 1..];
        }
        self.list.push(ptr::null());
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.list.as_ptr()
    }

    /// A list of these strings.
    pub fn from_list<'a>(strings: impl IntoIterator<Item = &'a CStr>) -> Self {
        let mut own = Self::default();
        own.refill(|bytes| strings.into_iter().for_each(|string| bytes.extend(string.to_bytes_with_nul())));
        own
    }
}
