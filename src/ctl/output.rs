//! Standard output: data and nothing else. Written in one go as far as memory goes, so that a reader that is slow, or
//! gone, is noticed once.

use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// That of this process.
    pub(super) fn standard() -> Self {
        Self { out: BufWriter::new(io::stdout().lock()) }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
