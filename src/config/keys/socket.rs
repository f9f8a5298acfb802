//! `socket`: options of the listening sockets.

use std::time::Duration;

use crate::config::location::Spanned;
use crate::config::units;
use crate::config::values::{Form, Octal, Whole, Word, boolean_form, word_notation, word_schema};

/// IFNAMSIZ is 16, the NUL included.
const MAX_INTERFACE_BYTES: usize = 15;

/// A duration in whole seconds.
fn whole_seconds() -> Word<Duration> {
    Word {
        expected: "a duration in whole seconds, such as 10s",
        pattern: None,
        parse: |text| units::parse_duration(text).filter(|time| time.subsec_nanos() == 0 && !time.is_zero()),
        print: |time| units::duration_text(*time),
    }
}

/// The name of a network interface.
fn interface_name() -> Word<String> {
    let parse = |text: &str| (1..=MAX_INTERFACE_BYTES).contains(&text.len()).then(|| text.to_owned());
    Word { parse, ..word_notation("the name of a network interface, such as eth0") }
}

/// A size in bytes, with or without a suffix; written as a number.
fn buffer_size() -> Form<u32> {
    const EXPECTED: &str = "a size in bytes, such as 64k";
    const MAX_BUFFER_BYTES: u64 = 1 << 30;
    Form {
        read: |reader| {
            reader.parse(EXPECTED, |text| {
                let size = units::parse_size(text).filter(|size| (1..=MAX_BUFFER_BYTES).contains(size))?;
                u32::try_from(size).ok()
            })
        },
        write: |size| (*size).into(),
        schema: || word_schema(EXPECTED),
    }
}

section! {
    /// `socket`.
    pub(crate) struct SocketSpec {
        /// Length of the queue of connections that wait; the kernel has a limit.
        backlog: Option<Spanned<u32>> = Whole(1, i32::MAX as i64);
        /// TCP_NODELAY.
        nodelay: Option<Spanned<bool>> = boolean_form() => false;
        /// SO_KEEPALIVE.
        keepalive: Option<Spanned<bool>> = boolean_form() => false;
        /// TCP_DEFER_ACCEPT: wait for the first data.
        defer_accept: Option<Spanned<Duration>> = whole_seconds();
        /// IP_FREEBIND: bind to an address that this machine may not have yet.
        freebind: Option<Spanned<bool>> = boolean_form() => false;
        /// SO_BINDTODEVICE: clients of this interface alone.
        device: Option<Spanned<String>> = interface_name();
        /// SO_MARK, for routing and filters.
        mark: Option<Spanned<u32>> = Whole(0, u32::MAX as i64);
        /// SO_SNDBUF.
        send_buffer: Option<Spanned<u32>> = buffer_size();
        /// SO_RCVBUF.
        receive_buffer: Option<Spanned<u32>> = buffer_size();
        /// Owner of a Unix socket's file.
        owner: Option<Spanned<String>> = word_notation("a user, or USER:GROUP");
        /// Mode of a Unix socket's file; 0666 unless given.
        mode: Option<Spanned<u32>> = Octal("0660");
    }
}
