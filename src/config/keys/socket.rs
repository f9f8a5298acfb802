//! `socket`: options of the listening sockets.

use std::time::Duration;

use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use crate::config::location::Spanned;
use crate::config::reader::{Expected, ValueReader};
use crate::config::units;
use crate::config::values::{Boolean, Notation, Octal, Word, whole, word};

/// IFNAMSIZ is 16, the NUL included.
const MAX_INTERFACE_LEN: usize = 15;

/// A duration in whole seconds.
fn seconds() -> Word<Duration> {
    Word {
        expected: "a duration in whole seconds, such as 10s",
        pattern: None,
        parse: |text| units::duration(text).filter(|time| time.subsec_nanos() == 0 && !time.is_zero()),
        print: |time| units::duration_text(*time),
    }
}

/// The name of a network interface.
fn interface() -> Word<String> {
    let parse = |text: &str| (1..=MAX_INTERFACE_LEN).contains(&text.len()).then(|| text.to_owned());
    Word { parse, ..word("the name of a network interface, such as eth0") }
}

/// A size in bytes, with or without a suffix; written as a number.
struct Buffer;

impl Buffer {
    const EXPECTED: &str = "a size in bytes, such as 64k";
    const MAX: u64 = 1 << 30;
}

impl Notation for Buffer {
    type Value = u32;

    fn read(&self, reader: &ValueReader<'_>) -> Result<u32, Expected> {
        let size = |text: &str| units::size(text).filter(|size| (1..=Self::MAX).contains(size));
        reader.parse(Self::EXPECTED, |text| u32::try_from(size(text)?).ok())
    }

    fn write(&self, size: &u32) -> Yaml {
        (*size).into()
    }

    fn schema(&self) -> Json {
        word(Self::EXPECTED).schema()
    }
}

section! {
    /// `socket`.
    pub(crate) struct SocketSpec {
        /// Length of the queue of connections that wait; the kernel has a limit.
        backlog: Option<Spanned<u32>> = whole(1, i32::MAX.into());
        /// TCP_NODELAY.
        nodelay: Option<Spanned<bool>> = Boolean => false;
        /// SO_KEEPALIVE.
        keepalive: Option<Spanned<bool>> = Boolean => false;
        /// TCP_DEFER_ACCEPT: wait for the first data.
        defer_accept: Option<Spanned<Duration>> = seconds();
        /// IP_FREEBIND: bind to an address that this machine may not have yet.
        freebind: Option<Spanned<bool>> = Boolean => false;
        /// SO_BINDTODEVICE: clients of this interface alone.
        device: Option<Spanned<String>> = interface();
        /// SO_MARK, for routing and filters.
        mark: Option<Spanned<u32>> = whole(0, u32::MAX.into());
        /// SO_SNDBUF.
        send_buffer: Option<Spanned<u32>> = Buffer;
        /// SO_RCVBUF.
        receive_buffer: Option<Spanned<u32>> = Buffer;
        /// Owner of a Unix socket's file.
        owner: Option<Spanned<String>> = word("a user, or USER:GROUP");
        /// Mode of a Unix socket's file; 0666 unless given.
        mode: Option<Spanned<u32>> = Octal("0660");
    }
}
