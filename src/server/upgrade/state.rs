//! The state that an upgrade hands from one program to the next: one JSON document in a file in memory.
//!
//! It is made of the live records themselves. Its form has a number: a program reads the form that it knows and no other, and
//! says so before the one that runs has given anything up. Times are of the monotonic clock, which execve(2) does not touch.
//! Descriptors are numbers of the process, which stays the same; [`System`] takes them over by reading them, and
//! [`Preview`](crate::system::Preview) only looks at them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::{Daemon, Options};
use crate::api::Upgrades;
use crate::compat;
use crate::config::{Loaded, dump};
use crate::control;
use crate::dispatch::kernel::Resources;
use crate::dispatch::saved;
use crate::limits::histogram::{Histogram, TURNS};
use crate::net::socket_file::FileIdentity;
use crate::sys::descriptor::{self, Nofile};
use crate::system::{Preview, System};

/// The form that this program writes, and the only one that it reads.
pub(super) const FORM: u32 = 2;

/// Enough for the state of any daemon, in bytes; more is nobody's state.
const STATE_MAX: u64 = 1 << 30;

/// All that is handed over: `D` is the dispatcher's part, `C` the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct State<D, C> {
    form: u32,
    pub(super) options: Options,
    pub(super) nofile: Nofile,
    /// The table in force, as `--dump` prints it.
    table: String,
    pub(super) since: Duration,
    pub(super) reloads: (u64, u64),
    pub(super) upgrades: Upgrades,
    pub(super) table_since: Duration,
    pub(super) turns: Histogram<{ TURNS.len() }>,
    pub(super) longest_turn: Duration,
    pub(super) control: Option<C>,
    pub(super) dispatcher: D,
}

/// The open control socket, as a system's state has it.
pub(super) trait ControlSocket: Resources {
    type Control;
}

impl ControlSocket for System {
    type Control = control::OpenSocket;
}

impl ControlSocket for Preview {
    type Control = control::OpenSocket<RawFd, FileIdentity>;
}

/// The state as it is read.
pub(super) type Restored<R> = State<saved::Restored<R>, <R as ControlSocket>::Control>;

/// The part by which one knows whether the rest can be read.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

impl Daemon {
    /// Writes the state into a new file in memory, whose position is then behind it.
    pub(super) fn write_state(&self) -> io::Result<File> {
        let state = State {
            form: FORM,
            options: self.options.clone(),
            nofile: self.nofile,
            table: dump::dump(&self.table),
            since: self.since,
            reloads: self.reloads,
            upgrades: Upgrades { done: self.upgrades.done + 1, problem: None, ..self.upgrades.clone() },
            table_since: self.table_since,
            turns: self.turns.clone(),
            longest_turn: self.longest_turn,
            control: self.control.save(),
            dispatcher: self.dispatcher.save(),
        };
        let mut file = descriptor::memory_file(c"oxinetd state")?;
        file.write_all(&serde_json::to_vec(&state)?)?;
        Ok(file)
    }
}

/// Reads what [`Daemon::write_state`] of this or another program has written.
///
/// # Errors
/// It is no state, or one of another form.
pub(super) fn read<S: DeserializeOwned>(file: &File) -> Result<S, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the state cannot be read: {error}");
    let length = file.metadata().map_err(|error| wrong(&error))?.len();
    let length = usize::try_from(length.min(STATE_MAX)).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).map_err(|error| wrong(&error))?;
    let form: Form = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    if form.form != FORM {
        return Err(format!("the state has form {}, and this program knows only form {FORM}", form.form));
    }
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
}

/// Reads a state as the next program does in its preflight.
#[cfg(any(test, fuzzing))]
pub fn understands(state: &File) -> bool {
    read::<Restored<Preview>>(state).is_ok()
}

impl<D, C> State<D, C> {
    /// The table in force: from its files, so that messages name their lines, or where they say something else by now
    /// as it was printed.
    ///
    /// # Errors
    /// The table that was printed can't be read; a line for each problem.
    pub(super) fn load_table(&self) -> Result<Loaded, Vec<String>> {
        let options = compat::Options { dialect: self.options.dialect, ..compat::Options::default() };
        if let Ok(loaded) = compat::load_with(&self.options.files, &options).loaded() {
            if dump::dump(&loaded.table) == self.table {
                return Ok(Loaded { warnings: Vec::new(), ..loaded });
            }
        }
        let printed = self.print_table().map_err(|error| vec![format!("the table: {error}")])?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", printed.as_fd().as_raw_fd()));
        compat::load(&[path]).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn print_table(&self) -> io::Result<File> {
        let mut file = descriptor::memory_file(c"oxinetd table")?;
        file.write_all(self.table.as_bytes())?;
        Ok(file)
    }
}
