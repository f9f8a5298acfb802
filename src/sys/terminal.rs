//! The terminal of a full-screen program: switched to raw mode and another screen, and restored at the end.
//!
//! `oxinetctl top` alone uses this. It never reads or draws more than it is asked to. It fails where standard input
//! or output is no terminal, or where the terminal has gone.

use std::io::{self, IsTerminal, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Switches to the alternate screen and hides the cursor; [`LEAVE_SCREEN`] brings back the first screen (xterm's
/// ctlseqs, 1049 and 25).
const ENTER_SCREEN: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE_SCREEN: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// The result of a wait for input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A byte that was typed.
    Byte(u8),
    /// The program must end: a signal has arrived, or the input is at its end.
    End,
    /// The size of the terminal has changed.
    Resized,
    /// The time is over.
    Nothing,
}

/// The terminal in full-screen mode. It is restored when this is dropped, after a panic too. SIGTERM, SIGHUP,
/// SIGINT and SIGQUIT become [`Input::End`].
#[derive(Debug)]
pub(crate) struct Terminal {
    before: Termios,
    end: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
}

impl Terminal {
    /// Switches to full-screen mode.
    ///
    /// # Errors
    /// Standard input or output is no terminal (`ENOTTY`).
    pub(crate) fn enter_fullscreen() -> io::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(Errno::ENOTTY.into());
        }
        let before = tcgetattr(io::stdin())?;
        let (end, resized) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&end))?;
        }
        signal_hook::flag::register(libc::SIGWINCH, Arc::clone(&resized))?;
        restore_on_panic(before.clone());
        let mut raw = before.clone();
        // Keys one by one, without echo. Ctrl-C and Ctrl-Z too: their signals would not restore the screen.
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        raw.input_flags.remove(InputFlags::IXON | InputFlags::ICRNL);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        let terminal = Self { before, end, resized };
        terminal.write(ENTER_SCREEN)?;
        Ok(terminal)
    }

    /// The number of columns and lines; 80 and 24 if the terminal does not say.
    pub(crate) fn size(&self) -> (usize, usize) {
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
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Waits for input, at most for `time`.
    pub(crate) fn wait_for_input(&self, time: Duration) -> Input {
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
            Ok(_) => Self::read_byte(),
            // A signal; the next call tells which.
            Err(Errno::EINTR) if self.end.load(Ordering::Relaxed) => Input::End,
            Err(Errno::EINTR) => Input::Resized,
            Err(_) => Input::End,
        }
    }

    fn read_byte() -> Input {
        let mut byte = [0];
        // Not through std's buffer: poll(2) does not see what is in it.
        match nix::unistd::read(io::stdin(), &mut byte) {
            Ok(1) => Input::Byte(byte[0]),
            Err(Errno::EINTR) => Input::Nothing,
            _ => Input::End,
        }
    }
}

fn restore_on_panic(before: Termios) {
    let hook = std::panic::take_hook();
    let before = std::sync::Mutex::new(before);
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(before) = before.lock() {
            restore_terminal(&before);
        }
        hook(panic);
    }));
}

fn restore_terminal(before: &Termios) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(LEAVE_SCREEN);
    let _ = out.flush();
    let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore_terminal(&self.before);
    }
}
