//! The terminal of a program that draws on all of it: taken over, and given back as it was.

use std::io::{self, IsTerminal, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// The other screen, without a cursor; so what was there before comes back in the end (xterm's ctlseqs, 1049 and 25).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A byte that was typed.
    Byte(u8),
    /// The end: a signal, or nobody types any more.
    End,
    /// The terminal has another size.
    Resized,
    /// The time is over.
    Nothing,
}

/// The terminal, until this is dropped. A panic gives it back too, and so do SIGTERM, SIGHUP, SIGINT and SIGQUIT, which
/// become [`Input::End`].
#[derive(Debug)]
pub struct Terminal {
    before: Termios,
    end: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes it over.
    ///
    /// # Errors
    /// Standard input or output is no terminal (`ENOTTY`).
    pub fn take() -> io::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(Errno::ENOTTY.into());
        }
        let before = tcgetattr(io::stdin())?;
        let (end, resized) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&end))?;
        }
        signal_hook::flag::register(libc::SIGWINCH, Arc::clone(&resized))?;
        give_back_on_panic(before.clone());
        let mut raw = before.clone();
        // Keys one by one, unseen; Ctrl-C and Ctrl-Z are keys as well, because what they do would leave the screen as it is.
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        raw.input_flags.remove(InputFlags::IXON | InputFlags::ICRNL);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        let terminal = Self { before, end, resized };
        terminal.write(ENTER)?;
        Ok(terminal)
    }

    /// Columns and lines; what every terminal had once, where it doesn't say.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let mut size = MaybeUninit::<libc::winsize>::zeroed();
        // SAFETY: the pointer is to memory of the type that this request fills; zeroed is a valid winsize.
        let size = unsafe {
            libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr());
            size.assume_init()
        };
        let or = |number: u16, default| if number == 0 { default } else { usize::from(number) };
        (or(size.ws_col, 80), or(size.ws_row, 24))
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Waits for input, for so long at most.
    pub fn wait(&self, time: Duration) -> Input {
        if self.end.load(Ordering::Relaxed) {
            return Input::End;
        }
        if self.resized.swap(false, Ordering::Relaxed) {
            return Input::Resized;
        }
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        let stdin = io::stdin();
        match poll(&mut [PollFd::new(std::os::fd::AsFd::as_fd(&stdin), PollFlags::POLLIN)], timeout) {
            Ok(0) => Input::Nothing,
            Ok(_) => self.byte(),
            // A signal; the next call says which.
            Err(Errno::EINTR) if self.end.load(Ordering::Relaxed) => Input::End,
            Err(Errno::EINTR) => Input::Resized,
            Err(_) => Input::End,
        }
    }

    fn byte(&self) -> Input {
        let mut byte = [0];
        // Not by std's buffer, of which poll(2) knows nothing.
        match nix::unistd::read(io::stdin(), &mut byte) {
            Ok(1) => Input::Byte(byte[0]),
            Err(Errno::EINTR) => Input::Nothing,
            _ => Input::End,
        }
    }
}

fn give_back_on_panic(before: Termios) {
    let hook = std::panic::take_hook();
    let before = std::sync::Mutex::new(before);
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(before) = before.lock() {
            give_back(&before);
        }
        hook(panic);
    }));
}

fn give_back(before: &Termios) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(LEAVE);
    let _ = out.flush();
    let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back(&self.before);
    }
}
